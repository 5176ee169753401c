-- `Command::MarkSent`: 1 where the first byte may leave.
local token, now = ARGV[3], read_clock()
local record, before = find(KEYS[1], now)
if not record or record[TOKEN] ~= token then return 0 end
if record[PHASE] == SENT then
  -- Written again, so that whoever asks whether replicas have it asks about this write.
  rewrite_clock(now)
  return 1
end
if record[PHASE] ~= QUEUED then return 0 end
write_clock(now)
send_open(record)
record[PHASE], record[SINCE] = SENT, now
put(KEYS[1], record, before)
return 1
