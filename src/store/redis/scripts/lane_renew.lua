-- `lane::Command::Renew` and `ledger::Command::Renew` in one. ARGV: 3 token, 4 lease.
local token, last = ARGV[3], read_clock() + tonumber(ARGV[4])
local lane, held = read_lane(), false
if lane then
  settle_lane(lane)
  if has_turn(lane, token) then
    held = true
    if not lane[TURN][T_SENT] then lane[TURN][T_UNTIL] = math.max(last, lane[TURN][T_UNTIL]) end
  else
    local at, place = place_of(lane, token)
    if at and NOW < place[P_UNTIL] then
      held = true
      place[P_UNTIL] = math.max(last, place[P_UNTIL])
    end
  end
  write_clock(NOW)
  write_lane(lane)
  tell_next(token)
end
local record, before = find(KEYS[1], NOW)
if not record or not in_flight(record) or record[TOKEN] ~= token then return 0 end
if last > record[UNTIL] then
  write_clock(NOW)
  record[UNTIL] = last
  put(KEYS[1], record, before)
end
return held and 1 or 0
