-- What every script knows of slots: `domain::slot`. A hold lives by the record of its attempt, so a script that changes such a
-- record changes its holds in the same step. Put between common.lua and each script.
--
-- `h:` + slot is a hash: the holds of one slot, by their tokens. Found in other ways: `g:` + booking has slot and token of
-- what the booking holds, `hu` all holds by their ends, `h` all of them in the order of state, name, slot and token. What was
-- given back lately is in `hf`. A record names the slots that its attempt reserved. Where a hold changes, its hash comes
-- last: an entry that finds no hold is passed over.

local H_STATE, H_SINCE, H_UNTIL, H_KEEP, H_RECORD, H_WITNESS, H_ASLEEP, H_LOOKS = 2, 3, 4, 5, 6, 7, 8, 9
local H_BOOKING, H_BOOKING_ID, H_INSTEAD, H_NAME, H_LABEL, H_REQUEST_ID, H_PARTS, H_SENT = 10, 11, 12, 13, 14, 15, 16, 17

local RESERVED, HELD, UNSETTLED, RELEASED = 'r', 'h', 'u', 'z'

-- A reserved one has no end of its own.
local NEVER = 9007199254740991
-- What was given back is told for so long to gateways that did not hear of it.
local FREED_KEPT = 3600000

local function hold_key(slot)
  return P .. 'h:' .. slot
end

-- A hold as the sets of all holds know it.
local function entry_of(hold, slot, token)
  return hold[H_STATE] .. hold[H_NAME] .. '\0' .. slot .. token
end

-- The end of a hold that begins at `since`.
local function end_of_hold(hold, since)
  local millis = tonumber(string.sub(hold[H_KEEP], 2))
  return string.sub(hold[H_KEEP], 1, 1) == 'f' and since + millis or millis
end

local function outlive(key, last)
  last = math.max(last, NOW)
  if redis.call('PTTL', key) < last + SLACK - OWN then redis.call('PEXPIREAT', key, last + SLACK) end
end

local function unpack_hold(bytes)
  local hold = cmsgpack.unpack(bytes)
  if hold[V] ~= VERSION then
    error('ONCEGATE a hold has format ' .. tostring(hold[V]) .. ', which this version does not know')
  end
  return hold
end

local function read_hold(slot, token)
  local bytes = redis.call('HGET', hold_key(slot), token)
  return bytes and unpack_hold(bytes) or nil
end

local function forget_entry(entry)
  redis.call('ZREM', P .. 'h', entry)
  redis.call('ZREM', P .. 'hu', entry)
end

-- `was`: its entry before it changed, nil where it was not there.
local function put_hold(slot, token, hold, was)
  local entry, key = entry_of(hold, slot, token), hold_key(slot)
  if was and was ~= entry then forget_entry(was) end
  -- A reserved one ends when its record says so; until then its keys have to be there.
  local last = hold[H_STATE] == RESERVED and NOW + CLOCK_KEPT or hold[H_UNTIL]
  redis.call('ZADD', P .. 'h', 0, entry)
  redis.call('ZADD', P .. 'hu', hold[H_UNTIL], entry)
  outlive(P .. 'h', last)
  outlive(P .. 'hu', last)
  if hold[H_BOOKING] ~= '' then
    redis.call('SADD', P .. 'g:' .. hold[H_BOOKING], slot .. token)
    outlive(P .. 'g:' .. hold[H_BOOKING], last)
  end
  redis.call('HSET', key, token, cmsgpack.pack(hold))
  if redis.call('HLEN', key) == 1 then
    redis.call('PEXPIREAT', key, math.max(last, NOW) + SLACK)
  else
    outlive(key, last)
  end
end

local function remove_hold(slot, token, hold)
  forget_entry(entry_of(hold, slot, token))
  if hold[H_BOOKING] ~= '' then redis.call('SREM', P .. 'g:' .. hold[H_BOOKING], slot .. token) end
  redis.call('HDEL', hold_key(slot), token)
end

-- Nobody knows since `since` whether it was taken.
local function unsettle(slot, token, hold, since)
  if hold[H_STATE] == UNSETTLED then return end
  local was, last = entry_of(hold, slot, token), end_of_hold(hold, since)
  if last <= NOW then return remove_hold(slot, token, hold) end
  hold[H_STATE], hold[H_SINCE], hold[H_UNTIL] = UNSETTLED, since, last
  put_hold(slot, token, hold, was)
end

-- What the attempt of `record` reserved and nobody has settled.
local function each_open(record, visit)
  local slots, token = record[SLOTS], record[TOKEN]
  if not slots then return end
  for at = 1, #slots, 16 do
    local slot = string.sub(slots, at, at + 15)
    local hold = read_hold(slot, token)
    if hold and (hold[H_STATE] == RESERVED or hold[H_STATE] == UNSETTLED) then visit(slot, token, hold) end
  end
end

-- `Fate::Free`: it is known that nothing was executed.
local function free_open(record)
  each_open(record, remove_hold)
end

-- `Fate::Doubt`.
local function unsettle_open(record, since)
  each_open(record, function(slot, token, hold) unsettle(slot, token, hold, since) end)
end

-- The attempt is sent from now on.
local function send_open(record)
  each_open(record, function(slot, token, hold)
    hold[H_SENT] = true
    put_hold(slot, token, hold, entry_of(hold, slot, token))
  end)
end

-- `domain::slot::fate` of what time alone does to a record that was in the phase `before` until `last`.
time_came = function(record, before, last)
  if before == QUEUED then free_open(record) end
  if before == SENT then unsettle_open(record, last) end
end
