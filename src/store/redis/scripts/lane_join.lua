-- `lane::Command::Join`. ARGV: 3 token, 4 owner, 5 lease, 6 the most that wait, 7 the lane's name, 8 its key.
-- The last one is what the gateways agreed on: where that is not so, the lane may only not have been said again yet, and the
-- answer is nothing. Answers { what, ... } otherwise.
local token, lease, most = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
read_clock()
if LIFE ~= ARGV[#ARGV] then return {} end
local lane = read_lane()
if not lane then
  if redis.call('ZCARD', KEYS[5]) >= LANES_MOST then return {'full', 1000} end
  lane = {VERSION, ARGV[7], ARGV[8], 0, false, {}}
end
settle_lane(lane)
write_clock(NOW)
if lane[TURN] then
  if has_turn(lane, token) then
    write_lane(lane)
    return {'yours'}
  end
  local at, place = place_of(lane, token)
  if at and NOW < place[P_UNTIL] then
    write_lane(lane)
    tell_next(token)
    return {'waiting', at, lane[TURN][T_UNTIL] - NOW}
  end
  if at then table.remove(lane[WAITING], at) end
  if #lane[WAITING] >= most then
    -- Places that nobody renewed keep nobody out.
    local held = {}
    for _, other in ipairs(lane[WAITING]) do
      if NOW < other[P_UNTIL] then table.insert(held, other) end
    end
    lane[WAITING] = held
  end
  if #lane[WAITING] >= most then
    write_lane(lane)
    tell_next(token)
    return {'full', lane[LAST_WAIT]}
  end
  table.insert(lane[WAITING], {token, ARGV[4], NOW, NOW + lease})
  write_lane(lane)
  tell_next(token)
  return {'waiting', #lane[WAITING], lane[TURN][T_UNTIL] - NOW}
end
begin(lane, token, ARGV[4], NOW + lease, 0)
write_lane(lane)
return {'yours'}
