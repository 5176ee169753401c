-- Takes over what the backend has given away already. ARGV: 3 how many holds there may be, 4 how many are adopted, then of
-- each its token, the place, and all slots that its booking has (`?`: not all are known). Answers what became of each; after a `full` nothing
-- more was done.
local now = read_clock()
write_clock(now)
local most, count, done = tonumber(ARGV[3]), tonumber(ARGV[4]), {}

-- What bookings have, and the slots that they have together, each looked at once.
local holds_of, slots_in = {}, {}

-- What the booking has, or had; of one without an id, what was adopted before.
local function had_by(wanted, slot, token)
  local booking = wanted[W_BOOKING]
  if booking ~= '' then
    holds_of[booking] = holds_of[booking] or of_booking(booking)
    return holds_of[booking]
  end
  local own = read_hold(slot, token)
  own = own and aged(slot, token, own)
  return own and {{slot, token, own}} or {}
end

local function slots_of(all)
  if slots_in[all] then return slots_in[all] end
  local slots = {}
  for at = 1, #all, 16 do slots[string.sub(all, at, at + 15)] = true end
  slots_in[all] = slots
  return slots
end

for n = 1, count do
  local at = 5 + (n - 1) * (WANTED_ARGS + 2)
  local token, wanted, all = ARGV[at], wanted_from(at + 1, 1)[1], ARGV[at + WANTED_ARGS + 1]
  local slot, hold = wanted[W_SLOT], reserved(wanted, '', 'adopted', true)
  hold[H_STATE], hold[H_UNTIL], hold[H_ASLEEP], hold[H_INSTEAD] = HELD, end_of_hold(hold, now), false, ''
  local what, ended, firm, moving = 'added', {}, {}, false
  local ends_then = string.sub(hold[H_KEEP], 1, 1) ~= 'f' and hold[H_UNTIL] > now
  local had, named = had_by(wanted, slot, token), all ~= '?' and slots_of(all)
  for _, one in ipairs(had) do
    local here, state = one[1] == slot, one[3][H_STATE]
    if here and state ~= RELEASED and not one[3][H_ASLEEP] and not one[3][H_LOOKS] then what = 'known' end
    if here and state == HELD and ends_then and one[3][H_KEEP] ~= hold[H_KEEP] then table.insert(firm, one) end
    -- `Hold::ends_by_adoption`.
    local ends = state == RELEASED or (state == HELD and not here)
    if ends and (here or (named and not named[one[1]])) then table.insert(ended, one) end
    moving = moving or is_moving(one[3])
  end
  if what == 'added' and hold[H_UNTIL] <= now then what = 'ended' end
  if what == 'added' and no_room_for(1, most) then what = 'full' end
  if (what == 'added' or what == 'known') and not moving then
    for _, one in ipairs(ended) do
      -- That one was given back was told when it was.
      if one[3][H_STATE] == RELEASED then remove_hold(one[1], one[2], one[3]) else give_back(one[1], one[2], one[3]) end
      end_record_of(one[3])
      for other = #had, 1, -1 do
        if had[other] == one then table.remove(had, other) end
      end
    end
    -- What the backend says of the end of a place that is known is what counts.
    for _, one in ipairs(firm) do
      one[3][H_KEEP], one[3][H_UNTIL] = hold[H_KEEP], hold[H_UNTIL]
      put_hold(slot, one[2], one[3], entry_of(one[3], slot, one[2]))
    end
  end
  if what == 'added' then
    if refusal(wanted, token) then what = 'over' end
    local left = read_hold(slot, token)
    -- It may have been given back lately, under the same token.
    redis.call('ZREM', P .. 'hf', slot .. token)
    put_hold(slot, token, hold, left and entry_of(left, slot, token))
    table.insert(had, { slot, token, hold })
  end
  table.insert(done, what)
  if what == 'full' then break end
end
return done
