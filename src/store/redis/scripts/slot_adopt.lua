-- Takes over what the backend has given away already. ARGV: 3 how many holds there may be, 4 how many are adopted, then of
-- each its token and the place. Answers what became of each; after a `full` nothing more was done.
local now = read_clock()
write_clock(now)
local most, count, done = tonumber(ARGV[3]), tonumber(ARGV[4]), {}
for n = 1, count do
  local at = 5 + (n - 1) * (WANTED_ARGS + 1)
  local token, wanted = ARGV[at], wanted_from(at + 1, 1)[1]
  local slot, hold = wanted[W_SLOT], reserved(wanted, '', 'adopted', true)
  hold[H_STATE], hold[H_UNTIL], hold[H_ASLEEP], hold[H_INSTEAD] = HELD, end_of_hold(hold, now), false, ''
  local what = 'added'
  if wanted[W_BOOKING] ~= '' then
    for _, one in ipairs(of_booking(wanted[W_BOOKING])) do
      if one[1] == slot then what = 'known' end
    end
  end
  if what == 'added' and hold[H_UNTIL] <= now then what = 'ended' end
  if what == 'added' and no_room_for(1, most) then what = 'full' end
  if what == 'added' then
    if refusal(wanted, token) then what = 'over' end
    local left = read_hold(slot, token)
    put_hold(slot, token, hold, left and entry_of(left, slot, token))
  end
  table.insert(done, what)
  if what == 'full' then break end
end
return done
