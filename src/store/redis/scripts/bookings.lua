-- What claims, completions and operators do with slots. Put behind slots.lua for those scripts that do.

-- A place that a claim asks for: so many arguments from a place on.
local W_SLOT, W_CAPACITY, W_KEEP, W_WITNESS, W_ASLEEP, W_BOOKING, W_BOOKING_ID = 1, 2, 3, 4, 5, 6, 7
local W_INSTEAD, W_WAS_RELEASED, W_LOOKS, W_NAME, W_LABEL, W_PARTS = 8, 9, 10, 11, 12, 13
local WANTED_ARGS = 13

-- How firm the states are, the least first.
local FIRMNESS = { [RESERVED] = 1, [HELD] = 2, [UNSETTLED] = 3, [RELEASED] = 4 }

-- The `count` places from the argument `at` on.
local function wanted_from(at, count)
  local all = {}
  for n = 1, count do
    local wanted = {}
    for field = 1, WANTED_ARGS do wanted[field] = ARGV[at + (n - 1) * WANTED_ARGS + field - 1] end
    wanted[W_CAPACITY] = tonumber(wanted[W_CAPACITY])
    wanted[W_ASLEEP], wanted[W_LOOKS] = wanted[W_ASLEEP] == '1', wanted[W_LOOKS] == '1'
    all[n] = wanted
  end
  return all
end

-- A hold as it is now; nil where time has ended it.
local function aged(slot, token, hold)
  if hold[H_STATE] == RESERVED then
    local record = find(record_key(hold[H_RECORD]), NOW)
    if record and in_flight(record) and record[TOKEN] == token then return hold end
    hold = read_hold(slot, token)
    if hold and hold[H_STATE] == RESERVED then
      -- Its record has gone without it: its key ended while no gateway was there.
      write_clock(NOW)
      if hold[H_SENT] then
        unsettle(slot, token, hold, NOW)
      else
        remove_hold(slot, token, hold)
      end
      hold = read_hold(slot, token)
    end
  end
  if hold and NOW >= hold[H_UNTIL] then
    remove_hold(slot, token, hold)
    return nil
  end
  return hold
end

-- The holds of a slot, by their tokens.
local function of_slot(slot)
  local pairs_of, holds = redis.call('HGETALL', hold_key(slot)), {}
  for at = 1, #pairs_of, 2 do
    local token = pairs_of[at]
    holds[token] = aged(slot, token, unpack_hold(pairs_of[at + 1]))
  end
  return holds
end

-- The holds of a booking: { slot, token, hold } each.
local function of_booking(booking)
  local found = {}
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'g:' .. booking)) do
    local slot, token = string.sub(name, 1, 16), string.sub(name, 17)
    local hold = read_hold(slot, token)
    if not hold then redis.call('SREM', P .. 'g:' .. booking, name) end
    hold = hold and aged(slot, token, hold)
    if hold then table.insert(found, { slot, token, hold }) end
  end
  return found
end

-- All that a claim may write is looked at first: what a cluster has moved to another node ends the script here, and not in
-- the middle.
local function reach(all)
  redis.call('EXISTS', P .. 'h', P .. 'hu')
  for _, wanted in ipairs(all) do
    redis.call('EXISTS', hold_key(wanted[W_SLOT]))
    if wanted[W_BOOKING] ~= '' then redis.call('EXISTS', P .. 'g:' .. wanted[W_BOOKING]) end
  end
end

-- Whether a change of its booking is under way, or nobody knows how one ended.
local function is_moving(hold)
  return hold[H_STATE] == RESERVED or (hold[H_STATE] == UNSETTLED and hold[H_INSTEAD] ~= '')
end

-- The slots whose holds a request that asks for `all` relies on.
local function relied_on(all)
  local slots = {}
  for _, one in ipairs(all) do slots[string.sub(one[W_INSTEAD], 1, 16)] = true end
  return slots
end

-- Whether what the caller saw of the booking is not so any more: each of its places is one that the request relies on (`seen`),
-- and none is being changed. `looked`: the bookings that were looked at already.
local function is_changed(wanted, by, seen, looked)
  local instead = wanted[W_INSTEAD]
  if instead ~= '' then
    local slot, token = string.sub(instead, 1, 16), string.sub(instead, 17)
    local hold = read_hold(slot, token)
    hold = hold and aged(slot, token, hold)
    if not hold or hold[H_STATE] == RESERVED then return true end
    if (hold[H_STATE] == RELEASED) ~= (wanted[W_WAS_RELEASED] == '1') then return true end
  end
  if wanted[W_BOOKING] == '' or looked[wanted[W_BOOKING]] then return false end
  looked[wanted[W_BOOKING]] = true
  for _, other in ipairs(of_booking(wanted[W_BOOKING])) do
    if other[2] ~= by and (is_moving(other[3]) or not seen[other[1]]) then return true end
  end
  return false
end

-- `domain::slot::refusal`: { since, until when ('' while an attempt is at work), state, the caller's own booking }; nil
-- where there is a place.
local function refusal(wanted, by)
  if wanted[W_ASLEEP] or wanted[W_LOOKS] then return nil end
  local replaced = ''
  if string.sub(wanted[W_INSTEAD], 1, 16) == wanted[W_SLOT] then replaced = string.sub(wanted[W_INSTEAD], 17) end
  local count, since, first, at_work, least, own, own_since = 0, 0, NEVER, false, RELEASED, '', -1
  for token, hold in pairs(of_slot(wanted[W_SLOT])) do
    local occupies = not hold[H_ASLEEP] and not hold[H_LOOKS] and hold[H_STATE] ~= RELEASED
    if occupies and token ~= by and token ~= replaced then
      count = count + 1
      since = math.max(since, hold[H_SINCE])
      if FIRMNESS[hold[H_STATE]] < FIRMNESS[least] then least = hold[H_STATE] end
      if hold[H_STATE] == RESERVED then at_work = true else first = math.min(first, hold[H_UNTIL]) end
      if hold[H_WITNESS] == wanted[W_WITNESS] and hold[H_BOOKING] ~= '' and hold[H_SINCE] > own_since then
        own, own_since = hold[H_BOOKING_ID], hold[H_SINCE]
      end
    end
  end
  if count < wanted[W_CAPACITY] then return nil end
  return { since, (at_work or first == NEVER) and '' or first, least, own }
end

-- `Hold::reserved`.
local function reserved(wanted, record, request_id, sent)
  return {
    VERSION, RESERVED, NOW, NEVER, wanted[W_KEEP], record, wanted[W_WITNESS], wanted[W_ASLEEP], wanted[W_LOOKS],
    wanted[W_BOOKING], wanted[W_BOOKING_ID], wanted[W_INSTEAD], wanted[W_NAME], wanted[W_LABEL], request_id,
    wanted[W_PARTS], sent,
  }
end

-- Forgets holds that are over, a few at a time.
local function purge_holds(most)
  local over = redis.call('ZRANGEBYSCORE', P .. 'hu', '-inf', NOW, 'LIMIT', 0, most)
  for _, entry in ipairs(over) do
    local slot, token = string.sub(entry, -32, -17), string.sub(entry, -16)
    local hold = read_hold(slot, token)
    if hold and entry_of(hold, slot, token) == entry then
      remove_hold(slot, token, hold)
    else
      forget_entry(entry)
    end
  end
  return #over
end

-- Whether `count` more would be more than `most`.
local function no_room_for(count, most)
  if redis.call('ZCARD', P .. 'h') + count <= most then return false end
  purge_holds(1000)
  return redis.call('ZCARD', P .. 'h') + count > most
end

-- A hold is given back: gateways that would say it again after a loss hear of it.
local function give_back(slot, token, hold)
  redis.call('ZREMRANGEBYSCORE', P .. 'hf', '-inf', NOW - FREED_KEPT)
  redis.call('ZADD', P .. 'hf', NOW, slot .. token)
  redis.call('PEXPIRE', P .. 'hf', FREED_KEPT)
  if hold then remove_hold(slot, token, hold) end
  redis.call('PUBLISH', ARGV[2], 'f' .. slot .. token)
end

-- An import that came before the answer had put the booking of `hold` into its slot, too: that is the same place.
local function forget_adopted(slot, token, hold)
  if hold[H_BOOKING] == '' then return end
  for _, other in ipairs(of_booking(hold[H_BOOKING])) do
    local adopted = other[3][H_RECORD] == '' and other[3][H_STATE] == HELD
    if other[1] == slot and other[2] ~= token and adopted then give_back(other[1], other[2], other[3]) end
  end
end

-- `Hold::settled` for what the attempt of `record` reserved. `state`: held or unsettled; `bookings`: slot, key and id of the
-- bookings that the answer names.
local function settle_open(record, state, bookings)
  each_open(record, function(slot, token, hold)
    -- Whatever the answer says of it: the booking has at most what it had.
    if hold[H_LOOKS] then return remove_hold(slot, token, hold) end
    local was, instead = entry_of(hold, slot, token), hold[H_INSTEAD]
    local nameless = hold[H_BOOKING] == ''
    for at = 1, #bookings, 3 do
      if bookings[at] == slot and hold[H_BOOKING] == '' then
        hold[H_BOOKING], hold[H_BOOKING_ID] = bookings[at + 1], bookings[at + 2]
      end
    end
    if state == HELD then
      if instead ~= '' then
        local old_slot, old_token = string.sub(instead, 1, 16), string.sub(instead, 17)
        local old = read_hold(old_slot, old_token)
        if old then give_back(old_slot, old_token, old) end
      end
      hold[H_STATE], hold[H_ASLEEP], hold[H_INSTEAD] = hold[H_ASLEEP] and RELEASED or HELD, false, ''
      hold[H_SINCE], hold[H_UNTIL] = NOW, end_of_hold(hold, NOW)
    elseif hold[H_STATE] == RESERVED then
      hold[H_STATE], hold[H_SINCE], hold[H_UNTIL] = UNSETTLED, NOW, end_of_hold(hold, NOW)
    end
    put_hold(slot, token, hold, was)
    if nameless and hold[H_STATE] == HELD then forget_adopted(slot, token, hold) end
    if hold[H_UNTIL] <= NOW then remove_hold(slot, token, hold) end
  end)
end

-- A release ends the keyless record of the attempt that took the place; that of the attempt whose success it is stays.
local function end_record_of(hold)
  if hold[H_RECORD] == '' then return end
  local key = record_key(hold[H_RECORD])
  if key == KEYS[1] then return end
  local record, before = find(key, NOW)
  if record and record[PHASE] == DONE and not record[KEYED] then forget(key, record, before) end
end

-- A booking gives back what it holds. `remember`: it may come back. Says how many holds were given back.
local function free_booking(booking, remember)
  local found, freed = of_booking(booking), 0
  if remember then
    -- Which of two changes came last nobody knows, so what may be taken stays taken.
    for _, one in ipairs(found) do
      if is_moving(one[3]) then return 0 end
    end
  end
  for _, one in ipairs(found) do
    local slot, token, hold = one[1], one[2], one[3]
    if remember and hold[H_STATE] == HELD then
      local was = entry_of(hold, slot, token)
      hold[H_STATE], hold[H_SINCE] = RELEASED, NOW
      give_back(slot, token, nil)
      put_hold(slot, token, hold, was)
      end_record_of(hold)
      freed = freed + 1
    elseif not remember and hold[H_STATE] ~= RESERVED then
      give_back(slot, token, hold)
      end_record_of(hold)
      freed = freed + 1
    end
  end
  return freed
end

-- A hold as the gateways read it.
local function shown(slot, token, hold)
  return {
    slot, token, hold[H_STATE], hold[H_SINCE], hold[H_UNTIL], hold[H_KEEP], hold[H_RECORD], hold[H_WITNESS],
    hold[H_ASLEEP] and 1 or 0, hold[H_LOOKS] and 1 or 0, hold[H_BOOKING], hold[H_BOOKING_ID], hold[H_INSTEAD],
    hold[H_NAME], hold[H_LABEL], hold[H_REQUEST_ID], hold[H_PARTS],
  }
end
