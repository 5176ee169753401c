-- Takes ids of records that are in doubt since their lease ended or their gateway was gone, and of which nobody has told: at most
-- ARGV[3], each once. Time passes first for what nobody asks about.
local now, ids = read_clock(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', phase_set(SENT), '-inf', now, 'LIMIT', 0, 500)) do find(record_key(id), now) end
for at, id in ipairs(redis.call('ZPOPMIN', P .. 'xt', ARGV[3])) do
  if at % 2 == 1 then table.insert(ids, id) end
end
return ids
