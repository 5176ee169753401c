-- `lane::Command::Send` and `ledger::Command::MarkSent` in one, so that neither is ever sent without the other. The turn is
-- looked at first: where it is lost, the record is not touched. ARGV: 3 token, 4 how long the turn is held, 5 what the gateways agreed on:
-- where that is not so, the lane may only not have been said again yet, and the answer is nothing.
local token, last = ARGV[3], read_clock() + tonumber(ARGV[4])
if LIFE ~= ARGV[#ARGV] then return false end
local lane = read_lane()
if lane then settle_lane(lane) end
if not has_turn(lane, token) then
  if lane then
    write_lane(lane)
    tell_next(token)
  end
  return 0
end
local record, before = find(KEYS[1], NOW)
if not record or not in_flight(record) or record[TOKEN] ~= token then
  write_lane(lane)
  return 0
end
write_clock(NOW)
local turn = lane[TURN]
turn[T_UNTIL] = turn[T_SENT] and math.max(last, turn[T_UNTIL]) or last
turn[T_SENT] = true
write_lane(lane)
-- One that was said again after a loss is sent already, and in no lane.
if record[PHASE] == QUEUED or not record[LANE] then
  if record[PHASE] == QUEUED then send_open(record) end
  -- Whoever settles the record gives the turn on.
  record[PHASE], record[SINCE], record[LANE] = SENT, NOW, lane_id()
  put(KEYS[1], record, before)
end
return 1
