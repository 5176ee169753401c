-- A gateway says that it is there, and agrees with the others whether the store may be trusted.
--
-- What they agree on has a name, `life@since`: the life of the server, and the instant at which the list of those who
-- said again what they know was opened. A gateway that has not said it for just this agreement is told to, however long
-- the others have gone on already: they may have agreed without it, on a server that had lost its records.
--
-- ARGV: 3 the secret's id, 4 the gateway, 5 the life of this server, 6 the agreement for which the gateway has said again
-- all that it knows, 7 the latest instant that it wrote here, 8 how long it waits for the others (ms), 9 … those that it
-- knew. Answers { 'go' | 'again' | 'wait' | 'secret', now, agreement, others … }.
--
-- The store's time goes on where it was, on a server too that knows nothing of it and whose own clock is behind: what comes
-- after a change must not be dated before it. So it may stand still for a while: who is there, how long they wait for each other
-- and the name of an agreement go by the server's own clock.
local now = go_on_from(read_clock(), tonumber(ARGV[7]))
local secret = redis.call('GET', P .. 'secret')
if secret and secret ~= ARGV[3] then return {'secret', now, ''} end
redis.call('SET', P .. 'secret', ARGV[3], 'PX', CLOCK_KEPT)

local me, life, said = ARGV[4], ARGV[5], ARGV[6]
local members, back = P .. 'm', P .. 'b'
redis.call('ZADD', members, OWN, me)
redis.call('PEXPIRE', members, 3600000)
redis.call('ZREMRANGEBYSCORE', members, '-inf', OWN - 10000)
local others, answer = {}, {'go', now, ''}
for _, other in ipairs(redis.call('ZRANGE', members, 0, -1)) do
  if other ~= me then
    others[other] = true
    table.insert(answer, other)
  end
end
local function answered_with(what, agreement)
  answer[1], answer[3] = what, agreement
  -- Kept from now on, whoever says next what it knows.
  LIFE = LIFE or 'lost'
  rewrite_clock(now)
  return answer
end

-- Something that was written is gone, on a server that remembers other things: everybody has to say again what they know.
-- Until they have, the clock has no agreement's name, and nothing that a claim could say is the same.
if LIFE and tonumber(ARGV[7]) > FLOOR then LIFE = 'lost' end
if string.match(LIFE or '', '^(.*)@%d+$') == life then
  return answered_with(said == LIFE and 'go' or 'again', LIFE)
end

-- Who is back is said for one agreement alone. The first one opens its list; one that nobody has looked at for a while
-- belongs to an earlier fault.
local opened = redis.call('HMGET', back, 'life', 'since', 'seen')
if opened[1] ~= life or OWN - tonumber(opened[3]) > 3000 then
  redis.call('DEL', back)
  opened[2] = digits(OWN)
end
redis.call('HSET', back, 'life', life, 'since', opened[2], 'seen', digits(OWN))
redis.call('PEXPIRE', back, 3600000)
local agreement = life .. '@' .. opened[2]
if said ~= agreement then
  redis.call('HSET', back, me, 's' .. digits(OWN))
  return answered_with('again', agreement)
end

redis.call('HSET', back, me, 1)
for at = 9, #ARGV do
  if ARGV[at] ~= me then others[ARGV[at]] = true end
end
-- Who says nothing at all is waited for no longer; who is still saying what it knows, for longer.
local waited, patience = OWN - tonumber(opened[2]), tonumber(ARGV[8])
for other in pairs(others) do
  local told = redis.call('HGET', back, other)
  local speaks = told and string.sub(told, 1, 1) == 's' and OWN - tonumber(string.sub(told, 2)) < 3000
  if told ~= '1' and waited < (speaks and 12 * patience or patience) then return answered_with('wait', agreement) end
end
LIFE = agreement
redis.call('DEL', back)
return answered_with('go', agreement)
