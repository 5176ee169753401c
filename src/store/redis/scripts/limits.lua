-- Takes from a request's limits: from all of them or from none, as `domain::throttle::decide` does, by this server's clock
-- and in whole microseconds. Sent without `common.lua`: it is the shortest script, and the most frequent one.
--
-- KEYS: the hard limit's bucket where it counts, then those of the stack. ARGV: 1 what the request costs, 2 whether the
-- first key is the hard limit, then for each key its interval and the time that a whole burst takes to come back.
-- Answers { 0 allowed | 1 early | 2 hard, now, and for each bucket how far behind now it is whole again }.
--
-- A bucket's value is the instant at which it is whole again, and it lives until then.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, hard = tonumber(ARGV[1]), ARGV[2] == '1'

local whole, taken, refused = {}, {}, {}
local kept = #KEYS > 0 and redis.call('MGET', unpack(KEYS)) or {}
for at = 1, #KEYS do
  local interval, depth = tonumber(ARGV[2 * at + 1]), tonumber(ARGV[2 * at + 2])
  local tat = tonumber(kept[at] or now)
  -- Later than that it never is, unless the clock was set back.
  if tat > now + depth then tat = now + depth end
  if tat < now then tat = now end
  whole[at], taken[at] = tat, tat + interval * cost
  refused[at] = taken[at] - depth > now
end

local function take(at)
  whole[at] = taken[at]
  redis.call('SET', KEYS[at], string.format('%.0f', taken[at]), 'PX', math.ceil((taken[at] - now) / 1000))
end

local said, first = 0, 1
if hard then
  first = 2
  if refused[1] then said = 2 else take(1) end
end
for at = first, #KEYS do
  if said == 0 and refused[at] then said = 1 end
end
if said == 0 then
  for at = first, #KEYS do take(at) end
end

local answer = {said, now}
for at = 1, #KEYS do answer[at + 2] = whole[at] - now end
return answer
