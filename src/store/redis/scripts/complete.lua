-- `Command::Complete`, with the intents that end by it; or, where the backend was asked about a doubt and has the effect,
-- `Command::Resolve` of just this attempt. Answers { whether the token held, whether this changed it, … as it is recorded }, and
-- in usual.lua the instant alone: both, and the answer is kept.
--
-- ARGV: 3 what the line below reads, 4 the answer, 5 what is kept of it ('' for all), and from 6 on: slot, key and id of each
-- booking that the answer names, key and whether it may come back of each that gives back what it holds, and what ends
-- others: the meaning, the scope, how long it is kept that all below the target ended too, the target, … those above it; the last
-- one what the gateways agreed on. Answers nothing where the record may only not have been said again yet.
local token, keep, status, flags, names, renewed, renewed_for, outcome, bookings, frees =
  struct.unpack('>c16I8I2BBc0Bc0I8c1I2I2', ARGV[3])
local answer, stored = ARGV[4], ARGV[5]
if stored == '' then stored = answer end
-- Whether the attempt itself says it, and whether all is to be told (2).
local own = flags % 2 == 1
local now = read_clock()
local record, before = find(KEYS[1], now)
local is_own = record and record[TOKEN] == token
if is_own and own and record[PHASE] == DONE then return {1, 0, record[SCOPE], record[SINCE], record[UNTIL]} end
if not is_own or record[PHASE] ~= DOUBT and not (own and record[PHASE] == SENT) then
  return LIFE == ARGV[#ARGV] and {0, 0} or {}
end

write_clock(now)
-- A name belongs to what is kept; where the intent has ended, nothing is.
if names ~= '' and not record[ENDED] and not record[NAMES] then record[NAMES] = names end
local named, rest = {}, 6 + 3 * bookings
for at = 6, rest - 1 do table.insert(named, ARGV[at]) end
settle_open(record, outcome, named)
local kept = answered(KEYS[1], record, before, own and token or BY_HAND .. token, answer, stored, status, keep, now)

-- What ends by this success. A repeated completion ends nothing: what it would end came after it.
for _ = 1, frees do
  free_booking(ARGV[rest], ARGV[rest + 1] == '1')
  rest = rest + 2
end
local alias_until = kept and renewed ~= '' and add_alias(renewed, record[SCOPE], renewed_for) or 0
if #ARGV > rest + 1 then
  local targets = {}
  for at = rest + 3, #ARGV - 1 do table.insert(targets, ARGV[at]) end
  end_intents(targets, ARGV[rest + 1], ARGV[rest], tonumber(ARGV[rest + 2]), now)
end
return {1, 1, record[SCOPE], now, record[UNTIL], kept and 1 or 0, record[LANE] or '', alias_until}
