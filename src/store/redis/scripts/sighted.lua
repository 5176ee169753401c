-- What an answer has: the request id of the first one within its window that had the same. ARGV: 3 what, 4 the request id,
-- 5 the window.
local key = P .. 'k:' .. ARGV[3]
local first = redis.call('GET', key)
if first then return {first} end
redis.call('SET', key, ARGV[4], 'PX', ARGV[5])
return {}
