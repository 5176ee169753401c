-- `Command::OwnersDied` for the records of the owner ARGV[3], which is known to be gone. Answers how many there were.
local now, gone = read_clock(), 0
write_clock(now)
for _, set in ipairs({phase_set(QUEUED), phase_set(SENT)}) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    local key = record_key(id)
    local record, before = find(key, now)
    if record and in_flight(record) and record[OWNER] == ARGV[3] then
      gone = gone + 1
      if record[PHASE] == QUEUED then
        free_open(record)
        remove(key, record, before)
        tell_gone(id, record, nil)
      else
        unsettle_open(record, now)
        to_doubt(record, now, 'owner-died')
        doubt_alone(key, record, before)
      end
    end
  end
end
return gone
