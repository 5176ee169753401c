-- `Command::Doubt`: the first reason and its date stay.
local now = read_clock()
local record, before = find(KEYS[1], now)
if not record or record[TOKEN] ~= ARGV[3] then return 0 end
if record[PHASE] == DOUBT then
  -- Who says so tells of it, too.
  redis.call('ZREM', P .. 'xt', id_of(KEYS[1]))
  return 1
end
if record[PHASE] ~= SENT then return 0 end
write_clock(now)
unsettle_open(record, now)
to_doubt(record, now, ARGV[4])
put(KEYS[1], record, before)
tell_doubt(id_of(KEYS[1]), record)
return 1
