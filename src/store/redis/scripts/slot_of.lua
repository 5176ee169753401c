-- What the booking ARGV[3] holds or would hold again.
read_clock()
local answer = {}
for _, one in ipairs(of_booking(ARGV[3])) do table.insert(answer, shown(one[1], one[2], one[3])) end
return answer
