-- `Command::Resolve` and `Command::Delete`. ARGV[3]: `executed`, `not-executed` or `delete`, by an operator; `absent`, of
-- the attempt ARGV[4] alone, by a probe. What follows from `executed`, where the record is about the resource ARGV[8]: 9 how
-- many bookings, then key and whether it may come back of each; then for how long it is kept that all below the target ended
-- too, the target, … those above it, where intents end. The last one is what the gateways agreed on. Answers { what, the attempt,
-- its lane, whether that followed, the record's scope, what it means, the instant }, and nothing where the record may only not have been
-- said again yet.

-- The bookings that the operator's answer names, as `settle_open` takes them. ARGV[7] has them behind the state of the slots:
-- the slots' name, the booking's key and id of each.
local function named_by(record, packed)
  local named, at = {}, 2
  while at <= #packed do
    local name, booking, id, behind = struct.unpack('>Bc0c16Bc0', packed, at)
    each_open(record, function(slot, _, hold)
      if hold[H_NAME] == name then
        for _, part in ipairs({slot, booking, id}) do table.insert(named, part) end
      end
    end)
    at = behind
  end
  return named
end

local how, now = ARGV[3], read_clock()
local record, before = find(KEYS[1], now)
if not record then return LIFE == ARGV[#ARGV] and {'none', '', '', 0} or {} end
local fits = record[PHASE] == DOUBT
if how == 'delete' then fits = not in_flight(record) end
if how == 'absent' then fits = fits and record[TOKEN] == ARGV[4] end
if not fits then return {'no', '', '', 0} end
write_clock(now)
local token, follows = record[TOKEN], false
if how == 'executed' then
  settle_open(record, string.sub(ARGV[7], 1, 1), named_by(record, ARGV[7]))
  answered(KEYS[1], record, before, BY_HAND .. token, ARGV[4], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), now)
  follows = #ARGV > 8 and ARGV[8] == record[TARGET]
else
  -- The gateway that took the slots has to hear of it, or it would say again that they are taken.
  if how ~= 'delete' then each_open(record, give_back) end
  forget(KEYS[1], record, before)
end
if follows then
  local rest = 10
  for _ = 1, tonumber(ARGV[9]) do
    free_booking(ARGV[rest], ARGV[rest + 1] == '1')
    rest = rest + 2
  end
  if #ARGV > rest then
    local targets = {}
    for at = rest + 1, #ARGV - 1 do table.insert(targets, ARGV[at]) end
    end_intents(targets, record[SCOPE], record[MEANING], tonumber(ARGV[rest]), now)
  end
end
return {'yes', token, record[LANE] or '', follows and 1 or 0, record[SCOPE], record[MEANING], now}
