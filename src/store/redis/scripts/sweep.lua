-- Lets time pass for what nobody asks about, and counts: { now, queued, sent, done, in doubt }.
local now = read_clock()
for _, phase in ipairs({ QUEUED, SENT }) do
  local set = phase_set(phase)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, 500)) do
    -- An entry without a record is left over from a script that was broken off.
    if not find(record_key(id), now) then redis.call('ZREM', set, id) end
  end
end
purge(phase_set(DONE), now, 1000)
purge(phase_set(DOUBT), now, 1000)
local counts = { now }
for _, phase in ipairs({ QUEUED, SENT, DONE, DOUBT }) do table.insert(counts, redis.call('ZCARD', phase_set(phase))) end
return counts
