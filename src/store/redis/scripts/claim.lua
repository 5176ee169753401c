-- `Command::Claim`, with the slots that are reserved in the same step or not at all. Answers { what, ... }.
--
-- ARGV: 3 to 17 see below, 18 the resources above the target, one behind the other, 19 … the places that it asks for (bookings.lua), and the last one what the gateways agreed on.
local token, owner, meaning, keyed, policy = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1', ARGV[7]
local scope, target, lease, sent, doubt_for = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11] == '1', tonumber(ARGV[12])
local quota, most = tonumber(ARGV[13]), tonumber(ARGV[14])

local now = read_clock()
-- Another life of the server, everything lost, or the gateways agreed without this one: nothing is granted before it
-- has said again what it knows.
if LIFE ~= ARGV[#ARGV] then return {'amnesia'} end

local key = KEYS[1]
local record, before = find(key, now)
if record then
  if record[POLICY] == policy and record[MEANING] ~= meaning then return {'other'} end
  if in_flight(record) then
    if record[TOKEN] == token then
      if sent and record[PHASE] == QUEUED then
        write_clock(now)
        send_open(record)
        record[PHASE], record[SINCE] = SENT, now
        put(key, record, before)
      end
      return {'granted', now}
    end
    -- 1: copies of the owner's own gateway wait, 2: of others too.
    local waited = record[OWNER] == owner and 1 or 2
    if (record[WAITED] or 0) < waited then
      record[WAITED] = waited
      put(key, record, before)
    end
    return {'flight', record[TOKEN], record[UNTIL] - now, record[ENDED] and 1 or 0}
  end
  if record[PHASE] ~= DONE then return {'doubt', record[TOKEN], record[SINCE], record[UNTIL], record[WHY]} end
  if record[KEYED] or not has_ended_above(record, ARGV[18]) then
    if record[LENGTH] > INLINE then return {'large', record[STATUS]} end
    return {'done', record[STATUS], redis.call('GET', KEYS[2])}
  end
  write_clock(now)
  remove(key, record, before)
end

local scoped = P .. 's:' .. scope
purge(scoped, now, 4)
if redis.call('ZCARD', scoped) >= quota then
  while purge(scoped, now, 1000) == 1000 do end
  if redis.call('ZCARD', scoped) >= quota then return {'quota'} end
end
local function held()
  return redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]) + redis.call('ZCARD', KEYS[6])
    + redis.call('ZCARD', KEYS[7])
end
if held() >= most then
  purge(KEYS[6], now, 1000)
  purge(KEYS[7], now, 1000)
  if held() >= most then return {'full'} end
end

local places = wanted_from(19, (#ARGV - 19) / WANTED_ARGS)
if #places > 0 then
  reach(places)
  for at, wanted in ipairs(places) do
    if is_changed(wanted, token) then return {'changed'} end
    local taken = refusal(wanted, token)
    if taken then return {'taken', at - 1, taken[1], taken[2], taken[3], taken[4]} end
  end
  if no_room_for(#places, most) then return {'places'} end
end

write_clock(now)
record = {
  VERSION, sent and SENT or QUEUED, token, owner, meaning, keyed, policy, scope, target, now, doubt_for, false,
  now + lease, now, false, 0, false, false, 0, ARGV[15], ARGV[16], ARGV[17],
}
if #places > 0 then
  local slots = {}
  for at, wanted in ipairs(places) do
    local slot = wanted[W_SLOT]
    slots[at] = slot
    -- One of the same token is left over from a script that was broken off.
    local left = read_hold(slot, token)
    local hold = reserved(wanted, id_of(key), ARGV[17], sent)
    put_hold(slot, token, hold, left and entry_of(left, slot, token))
  end
  record[LANE], record[SLOTS] = false, table.concat(slots)
end
put(key, record, nil)
return {'granted', now}
