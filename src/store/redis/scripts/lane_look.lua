-- How a place stands, for whoever waits in it. ARGV[3]: the token. Answers { what, when time changes something }.
read_clock()
local lane = read_lane()
if not lane then return {'gone', 0} end
settle_lane(lane)
write_lane(lane)
tell_next(ARGV[3])
if has_turn(lane, ARGV[3]) then return {'yours', 0} end
if place_of(lane, ARGV[3]) then return {'waiting', lane[TURN][T_UNTIL] - NOW} end
return {'gone', 0}
