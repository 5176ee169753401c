-- `Command::Complete`, with the intents that end by it. Answers { whether the token held, whether this changed it }.
local token, keep, status = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, stored, names = ARGV[6], ARGV[7], ARGV[8]
if stored == '' then stored = answer end

local now = read_clock()
local record, before = find(KEYS[1], now)
if not record or record[TOKEN] ~= token then return {0, 0} end
if record[PHASE] == DONE then return {1, 0} end
if record[PHASE] ~= SENT and record[PHASE] ~= DOUBT then return {0, 0} end

write_clock(now)
-- A name belongs to what is kept; where the intent has ended, nothing is.
if names ~= '' and not record[ENDED] and not record[NAMES] then record[NAMES] = names end
local kept = answered(KEYS[1], record, before, token, answer, stored, status, keep, now)

-- Who the caller is from now on, and what ends by this success. A repeated completion ends nothing: what it would end
-- came after it.
if kept and ARGV[9] ~= '' then add_alias(ARGV[9], record[SCOPE], now + keep) end
if #ARGV > 10 then
  local targets = {}
  for at = 12, #ARGV do targets[at - 11] = ARGV[at] end
  end_intents(targets, ARGV[11], ARGV[10], now)
end
return {1, 1, kept and 1 or 0, record[SCOPE], now}
