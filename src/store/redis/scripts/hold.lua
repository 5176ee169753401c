-- Whether the attempt still holds its record, said by a write: what replicas have of this write they have of the claim.
local now = read_clock()
local record = find(KEYS[1], now)
if not record or not in_flight(record) or record[TOKEN] ~= ARGV[3] then return 0 end
rewrite_clock(now)
return 1
