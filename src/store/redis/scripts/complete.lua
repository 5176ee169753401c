-- `Command::Complete`, with the intents that end by it; or, where the backend was asked about a doubt and has the effect,
-- `Command::Resolve` of just this attempt. Answers { whether the token held, whether this changed it, … }.
--
-- ARGV: 3 token, 4 how long it is kept, 5 status, 6 answer, 7 what is kept of it ('' for all), 8 the resource that it
-- names, 9 who the caller is from now on, 10 `own` or `found`, 11 how the slots go on (`h` held, `u` unsettled), 12 how many
-- bookings the answer names, 13 how many bookings give back what they hold; then slot, key and id of each of the former,
-- key and whether it may come back of each of the latter, and what ends others: the meaning, the scope, how long it is kept
-- that all below the target ended too, the target, … those above it.
local token, keep, status = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, stored, names, own = ARGV[6], ARGV[7], ARGV[8], ARGV[10] == 'own'
if stored == '' then stored = answer end

local now = read_clock()
local record, before = find(KEYS[1], now)
if not record or record[TOKEN] ~= token then return {0, 0} end
if own and record[PHASE] == DONE then return {1, 0} end
if record[PHASE] ~= DOUBT and not (own and record[PHASE] == SENT) then return {0, 0} end

write_clock(now)
-- A name belongs to what is kept; where the intent has ended, nothing is.
if names ~= '' and not record[ENDED] and not record[NAMES] then record[NAMES] = names end
local bookings, rest = {}, 14 + 3 * tonumber(ARGV[12])
for at = 14, rest - 1 do table.insert(bookings, ARGV[at]) end
settle_open(record, ARGV[11], bookings)
local kept = answered(KEYS[1], record, before, own and token or '', answer, stored, status, keep, now)

-- What ends by this success. A repeated completion ends nothing: what it would end came after it.
for _ = 1, tonumber(ARGV[13]) do
  free_booking(ARGV[rest], ARGV[rest + 1] == '1')
  rest = rest + 2
end
if kept and ARGV[9] ~= '' then add_alias(ARGV[9], record[SCOPE], now + keep) end
if #ARGV > rest + 1 then
  local targets = {}
  for at = rest + 3, #ARGV do table.insert(targets, ARGV[at]) end
  end_intents(targets, ARGV[rest + 1], ARGV[rest], tonumber(ARGV[rest + 2]), now)
end
return {1, 1, kept and 1 or 0, record[SCOPE], now, record[LANE] or ''}
