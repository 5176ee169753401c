-- The backend has no such booking any more: gives back the hold that a gateway saw, where it is still that one and no change
-- of its booking is under way. ARGV: 3 slot, 4 token, 5 since when it was held, 6 its booking or '', 7 what the gateways agreed
-- on. Answers { 1 }, { 0 } where it is another by now, or nothing where the gateways have still to say what they know.
local now = read_clock()
if LIFE ~= ARGV[7] then return {} end
local slot, token = ARGV[3], ARGV[4]
local hold = read_hold(slot, token)
hold = hold and aged(slot, token, hold)
if not hold or hold[H_STATE] ~= HELD or hold[H_SINCE] ~= tonumber(ARGV[5]) or hold[H_BOOKING] ~= ARGV[6] then return {0} end
if ARGV[6] ~= '' then
  for _, one in ipairs(of_booking(ARGV[6])) do
    if is_moving(one[3]) then return {0} end
  end
end
write_clock(now)
give_back(slot, token, hold)
end_record_of(hold)
return {1}
