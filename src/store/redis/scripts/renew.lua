-- `Command::Renew`: never shortens. ARGV: 3 token, 4 lease, 5 what the gateways agreed on. Answers nothing where the record may
-- only not have been said again yet.
local now = read_clock()
local record, before = find(KEYS[1], now)
if not record or not in_flight(record) or record[TOKEN] ~= ARGV[3] then
  return LIFE == ARGV[#ARGV] and 0
end
local later = now + tonumber(ARGV[4])
if later > record[UNTIL] then
  write_clock(now)
  record[UNTIL] = later
  put(KEYS[1], record, before)
end
return 1
