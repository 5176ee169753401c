-- Claims as nearly all are: of what is not known yet, or was answered and is kept. Everything else goes on in claim.lua,
-- which could do these too; here they need none of what is put in between.
--
-- ARGV: 3 what the line below reads, 4 the resources above the target, one behind the other, 5 … the places that it asks for
-- (bookings.lua), and the last one what the gateways agreed on.
local token, owner, meaning, flags, policy, scope, target, lease, doubt_for, quota, most, route, request, request_id =
  struct.unpack('>c16c16c32Bc8c16c16I8I8I4I8Bc0Bc0Bc0', ARGV[3])
local keyed, sent = flags % 2 == 1, flags >= 2

local function claimed(now)
  return {
    VERSION, sent and SENT or QUEUED, token, owner, meaning, keyed, policy, scope, target, now, doubt_for, false,
    now + lease, now, false, 0, false, false, 0, route, request, request_id,
  }
end

-- Records of this part.
local function held()
  return redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]) + redis.call('ZCARD', KEYS[6])
    + redis.call('ZCARD', KEYS[7])
end

local now = read_clock()
-- Another life of the server, everything lost, or the gateways agreed without this one: nothing is granted before it
-- has said again what it knows.
if LIFE ~= ARGV[#ARGV] then return {'amnesia'} end

if #ARGV == 5 then
  local record = read(KEYS[1])
  if not record then
    local scoped = P .. 's:' .. scope
    purge(scoped, now, 4)
    if redis.call('ZCARD', scoped) < quota and held() < most then
      write_clock(now)
      put(KEYS[1], claimed(now), nil)
      return now
    end
  elseif record[PHASE] == DONE and now < record[UNTIL] and record[LENGTH] <= INLINE
    and (record[KEYED] or ARGV[4] == '') and (record[POLICY] ~= policy or record[MEANING] == meaning)
  then
    local answer = redis.call('GET', KEYS[2])
    if answer then return answer end
  end
end
