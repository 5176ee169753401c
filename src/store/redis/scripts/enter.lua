-- A gateway says that it is there, and agrees with the others whether the store may be trusted.
--
-- ARGV: 3 the secret's id, 4 the gateway, 5 the life of this server, 6 whether the gateway has said again all that it
-- knows, 7 the latest instant that it wrote here, 8 how long it waits for the others (ms), 9 … those that it knew.
-- Answers { 'go' | 'again' | 'wait' | 'secret', now, others … }.
local now = read_clock()
local secret = redis.call('GET', P .. 'secret')
if secret and secret ~= ARGV[3] then return {'secret', now} end
redis.call('SET', P .. 'secret', ARGV[3], 'PX', CLOCK_KEPT)

local me, life = ARGV[4], ARGV[5]
local members, back = P .. 'm', P .. 'b'
redis.call('ZADD', members, now, me)
redis.call('PEXPIRE', members, 3600000)
redis.call('ZREMRANGEBYSCORE', members, '-inf', now - 10000)
local others, answer = {}, {'go', now}
for _, other in ipairs(redis.call('ZRANGE', members, 0, -1)) do
  if other ~= me then
    others[other] = true
    table.insert(answer, other)
  end
end

-- Something written down was lost without a new life of the server: everybody has to say again what they know.
if LIFE and tonumber(ARGV[7]) > FLOOR then LIFE = '' end
if LIFE == life then
  write_clock(now)
  return answer
end

-- Who is back is said for this life alone. The first one opens the list.
local opened = redis.call('HGET', back, 'life')
if opened ~= life then
  redis.call('DEL', back)
  redis.call('HSET', back, 'life', life, 'since', now)
end
redis.call('PEXPIRE', back, 3600000)
if ARGV[6] ~= '1' then
  answer[1] = 'again'
  if LIFE then write_clock(now) end
  return answer
end
redis.call('HSET', back, me, 1)
for at = 9, #ARGV do
  if ARGV[at] ~= me then others[ARGV[at]] = true end
end
if now - tonumber(redis.call('HGET', back, 'since')) < tonumber(ARGV[8]) then
  for other in pairs(others) do
    if redis.call('HEXISTS', back, other) == 0 then
      answer[1] = 'wait'
      return answer
    end
  end
end
LIFE = life
redis.call('DEL', back)
write_clock(now)
return answer
