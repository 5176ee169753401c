-- Whether the scope ARGV[3] has a live record in this part.
local now = read_clock()
while purge(P .. 's:' .. ARGV[3], now, 1000) == 1000 do end
return redis.call('ZCARD', P .. 's:' .. ARGV[3]) > 0 and 1 or 0
