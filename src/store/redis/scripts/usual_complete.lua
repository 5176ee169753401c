-- Completions as nearly all are: of an attempt under its lease, without slots, that ends nothing else. Everything else goes
-- on in complete.lua, which could do these too.
--
-- ARGV: 3 what the line below reads, 4 the answer, 5 what is kept of it ('' for all), 6 … see complete.lua.
local token, keep, status, flags, names, renewed, outcome, bookings, frees =
  struct.unpack('>c16I8I2BBc0Bc0c1I2I2', ARGV[3])
local answer, stored = ARGV[4], ARGV[5]
if stored == '' then stored = answer end
-- Whether the attempt itself says it, and whether all is to be told (2).
local own = flags % 2 == 1

local now = read_clock()
if flags == 1 and #ARGV == 5 then
  local record = read(KEYS[1])
  if record and record[TOKEN] == token and record[PHASE] == SENT and now < record[UNTIL]
    and not record[ENDED] and not record[SLOTS]
  then
    write_clock(now)
    if names ~= '' and not record[NAMES] then record[NAMES] = names end
    keep_answer(KEYS[1], record, SENT, token, answer, stored, status, keep, now)
    return now
  end
end
