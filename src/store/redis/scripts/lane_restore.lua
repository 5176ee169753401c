-- A gateway says again whose the turn in a lane is, after the store may have forgotten the lane and after the attempt's record was
-- said. Of two the later one counts: it was sent when the other one's turn was over. ARGV: 3 token, 4 owner, 5 since when it is
-- sent, 6 until when its turn is held, 7 the lane's name, 8 its key. Answers whether it has the turn.
local token, since, last = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
read_clock()
local record, before = find(KEYS[1], NOW)
local is_open = record and record[TOKEN] == token and (record[PHASE] == SENT or record[PHASE] == DOUBT)
if last <= NOW or not is_open then return 0 end
local lane = read_lane() or {VERSION, ARGV[7], ARGV[8], 0, false, {}}
local turn = lane[TURN]
if turn and turn[T_TOKEN] ~= token and turn[T_SENT] and turn[T_SINCE] >= since then return 0 end
write_clock(NOW)
local at = place_of(lane, token)
if at then table.remove(lane[WAITING], at) end
lane[TURN] = {token, ARGV[4], since, true, last}
write_lane(lane)
if not record[LANE] then
  -- Whoever settles the record gives the turn on.
  record[LANE] = lane_id()
  put(KEYS[1], record, before)
end
return 1
