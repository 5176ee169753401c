-- `Command::Abandon`: known not to have been executed. ARGV[4]: what copies that wait are told, where there is something.
local now = read_clock()
local record, before = find(KEYS[1], now)
if not record or record[PHASE] == DONE or record[TOKEN] ~= ARGV[3] then return 0 end
write_clock(now)
free_open(record)
remove(KEYS[1], record, before)
tell_gone(id_of(KEYS[1]), record, ARGV[4])
return 1
