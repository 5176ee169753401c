-- An operator gives back what the gateways take for taken. ARGV: 3 a booking or '', 4 slot and 5 token of one hold. Answers
-- { how many are gone }, or nothing where an attempt at work has one of them; then nothing changes.
local now = read_clock()
local found
if ARGV[3] ~= '' then
  found = of_booking(ARGV[3])
else
  local hold = read_hold(ARGV[4], ARGV[5])
  hold = hold and aged(ARGV[4], ARGV[5], hold)
  found = hold and {{ARGV[4], ARGV[5], hold}} or {}
end
for _, one in ipairs(found) do
  if one[3][H_STATE] == RESERVED then return {} end
end
if #found > 0 then write_clock(now) end
for _, one in ipairs(found) do
  give_back(one[1], one[2], one[3])
  end_record_of(one[3])
end
return {#found}
