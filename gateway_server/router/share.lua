-- What processes know of targets, in one hash: each field is one word, its value when it ends, in milliseconds
-- by Redis's own clock. Takes new words and gives all that hold.
--
-- KEYS: the hash. ARGV: the longest that a word may hold, in milliseconds; then for each word its field and for
-- how many milliseconds it holds from now on, or 0 to take it back.
-- Gives for each word its field, when it ends, and for how many milliseconds it still holds.
local MOST = 10000
local key, longest = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- So many targets there are not: somebody else wrote here.
if redis.call('HLEN', key) > MOST then redis.call('DEL', key) end

for i = 2, #ARGV, 2 do
  local field, length = ARGV[i], math.min(tonumber(ARGV[i + 1]), longest)
  if length <= 0 then
    redis.call('HDEL', key, field)
  else
    local ends = tonumber(redis.call('HGET', key, field) or '') or 0
    if not (ends <= now + longest) then ends = 0 end
    redis.call('HSET', key, field, string.format('%.0f', math.max(ends, now + length)))
  end
end

local answer, all = {}, redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local ends = tonumber(all[i + 1])
  -- What holds for longer than any word may is of a clock that was put back, or of somebody else.
  if ends and ends > now and ends <= now + longest then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = ends
    answer[#answer + 1] = ends - now
  else
    redis.call('HDEL', key, all[i])
  end
end
redis.call('PEXPIRE', key, longest)
return answer
