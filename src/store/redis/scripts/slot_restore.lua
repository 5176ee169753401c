-- A gateway says again what it knows of holds, after the store may have forgotten them and after their records were said.
-- What is settled here stays as it is, and what was given back lately stays so. ARGV[3] …: sixteen of each hold: slot, token,
-- state, since, until, keep, record, witness, asleep, looks, booking, its id, instead of, name, label, request id; and its
-- parts. Answers how many were put.
local now, each, put_count = read_clock(), 17, 0
write_clock(now)
for at = 3, #ARGV, each do
  local slot, token, state = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local hold = {
    VERSION, state, tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), ARGV[at + 5], ARGV[at + 6], ARGV[at + 7],
    ARGV[at + 8] == '1', ARGV[at + 9] == '1', ARGV[at + 10], ARGV[at + 11], ARGV[at + 12], ARGV[at + 13], ARGV[at + 14],
    ARGV[at + 15], ARGV[at + 16], true,
  }
  local known = read_hold(slot, token)
  local is_open = known and (known[H_STATE] == RESERVED or known[H_STATE] == UNSETTLED)
  local later = not known or (is_open and state ~= RESERVED)
  if later and hold[H_UNTIL] > now and not redis.call('ZSCORE', P .. 'hf', slot .. token) then
    local instead = known and known[H_INSTEAD] or ''
    if state == HELD and instead ~= '' then
      local old_slot, old_token = string.sub(instead, 1, 16), string.sub(instead, 17)
      local old = read_hold(old_slot, old_token)
      if old then give_back(old_slot, old_token, old) end
    end
    put_hold(slot, token, hold, known and entry_of(known, slot, token))
    put_count = put_count + 1
  end
end
return put_count
