-- Lets time pass for what nobody asks about, and counts: { now, queued, sent, done, in doubt }.
local now = read_clock()
for set = 4, 5 do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[set], '-inf', now, 'LIMIT', 0, 500)) do
    -- An entry without a record is left over from a script that was broken off.
    if not find(record_key(id), now) then redis.call('ZREM', KEYS[set], id) end
  end
end
purge(KEYS[6], now, 1000)
purge(KEYS[7], now, 1000)
local counts = {now}
for set = 4, 7 do table.insert(counts, redis.call('ZCARD', KEYS[set])) end
return counts
