-- What the scripts of lanes share: `domain::lane`, one lane under one key. KEYS[4]: the lane, KEYS[5]: all lanes by the
-- end of their turns. Put between common.lua and each of those scripts.

local NAME, KEY, LAST_WAIT, TURN, WAITING = 2, 3, 4, 5, 6
-- A turn: its attempt, the owner, since when, whether something was sent in it, until when. A place: its attempt, the
-- owner, since when, until when it holds.
local T_TOKEN, T_OWNER, T_SINCE, T_SENT, T_UNTIL = 1, 2, 3, 4, 5
local P_TOKEN, P_OWNER, P_JOINED, P_UNTIL = 1, 2, 3, 4

-- Lanes that are open at one time; one more counts as full.
local LANES_MOST = 100000

-- The token that got the turn in this script and has to be told.
local NEXT = false

local function read_lane()
  local bytes = redis.call('GET', KEYS[4])
  if not bytes then return nil end
  local lane = cmsgpack.unpack(bytes)
  if lane[V] ~= VERSION then
    error('ONCEGATE a lane has format ' .. tostring(lane[V]) .. ', which this version does not know')
  end
  return lane
end

local function lane_id()
  return string.sub(KEYS[4], -16)
end

local function write_lane(lane)
  if not lane[TURN] and #lane[WAITING] == 0 then
    redis.call('ZREM', KEYS[5], lane_id())
    redis.call('DEL', KEYS[4])
    return
  end
  local last = lane[TURN] and lane[TURN][T_UNTIL] or NOW
  redis.call('ZADD', KEYS[5], last, lane_id())
  for _, place in ipairs(lane[WAITING]) do last = math.max(last, place[P_UNTIL]) end
  if redis.call('PTTL', KEYS[5]) < last + SLACK - OWN then redis.call('PEXPIREAT', KEYS[5], last + SLACK) end
  redis.call('SET', KEYS[4], cmsgpack.pack(lane), 'PXAT', last + SLACK)
end

local function begin(lane, token, owner, last, waited)
  lane[LAST_WAIT] = waited
  lane[TURN] = {token, owner, NOW, false, last}
end

-- The turn goes to the first who waits and whose lease still holds.
local function give_on(lane)
  lane[TURN] = false
  while #lane[WAITING] > 0 do
    local place = table.remove(lane[WAITING], 1)
    if NOW < place[P_UNTIL] then
      begin(lane, place[P_TOKEN], place[P_OWNER], place[P_UNTIL], math.max(0, NOW - place[P_JOINED]))
      NEXT = place[P_TOKEN]
      return
    end
  end
end

-- What time alone makes of a lane.
local function settle_lane(lane)
  if not lane[TURN] or NOW >= lane[TURN][T_UNTIL] then give_on(lane) end
end

local function has_turn(lane, token)
  return lane and lane[TURN] and lane[TURN][T_TOKEN] == token
end

local function place_of(lane, token)
  for at, place in ipairs(lane[WAITING]) do
    if place[P_TOKEN] == token then return at, place end
  end
end

-- Whoever got the turn hears of it; `but` is who called, who hears it from the reply.
local function tell_next(but)
  if NEXT and NEXT ~= but then redis.call('PUBLISH', ARGV[2], 't' .. lane_id() .. NEXT) end
end

local function leave(lane, token)
  if has_turn(lane, token) then
    give_on(lane)
    return true
  end
  local at = place_of(lane, token)
  if at then table.remove(lane[WAITING], at) end
  return at and true or false
end
