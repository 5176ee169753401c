-- `lane::Command::Leave`. ARGV[3]: the token. Answers { whether it was there, who has the turn by it }.
read_clock()
local lane = read_lane()
if not lane then return {0, ''} end
settle_lane(lane)
local held = leave(lane, ARGV[3])
if NEXT == ARGV[3] then NEXT = false end
write_clock(NOW)
write_lane(lane)
tell_next(ARGV[3])
return {held and 1 or 0, NEXT or ''}
