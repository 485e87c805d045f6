"""State in Redis, which every worker and host shares. Its clock is the clock of Redis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .. import chance
from .redis_connection import RedisConnection, RedisUnavailable
from .state import StateUnavailable, Stored, Taken
from .window import HOST_S, KEPT_S, SPAN_S

_Value = bytes | int | str
_SCAN_COUNT = 1_000

# KEYS[1] is the key. `pcall` returns a table for a value of another type, so a foreign value is no
# failure of Redis. Such a value counts as an empty text, which is no pause and no record.
_READ = """
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then found = '' end
"""
_GET = f"""{_READ}
return {{found, redis.call('PTTL', KEYS[1])}}
"""
# The arguments are a flag and the value before, a flag and the value after, and the time to live in
# milliseconds. A flag is 0 for no value, because a value may be empty.
_SWAP = f"""{_READ}
if (ARGV[1] == '0' and found) or (ARGV[1] == '1' and found ~= ARGV[2]) then return 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
return 1
"""
# The steps of `Window.take`. The arguments are the limit, the host, the epoch that was seen, and an
# epoch for a new window. The hash has the members epoch, began and closed_until. A member c<second>
# has the calls of a second, and f<host> and l<host> have the first and last second of a host. A
# foreign value, or a hash without an epoch, is replaced by a new window.
_TAKE = f"""
local key, limit, host, seen = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local second = tonumber(redis.call('TIME')[1])
local function whole(text)
  if text and #text < 16 and text:match('^%d+$') then return tonumber(text) end
end
local epoch = redis.pcall('HGET', key, 'epoch')
if type(epoch) ~= 'string' or not epoch:match('^%w+$') then
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', ARGV[4], 'began', second)
end
local window, counts, first, last = {{}}, {{}}, {{}}, {{}}
local parts = {{c = counts, f = first, l = last}}
local found = redis.call('HGETALL', key)
for i = 1, #found, 2 do
  local name, value = found[i], found[i + 1]
  local part = parts[name:sub(1, 1)]
  if part == counts and not whole(name:sub(2)) then part = nil end
  if name == 'epoch' or name == 'began' or name == 'closed_until' then window[name] = value
  elseif part then part[name:sub(2)] = whole(value) end
end
local closed_until = whole(window.closed_until) or 0
if seen ~= '' and seen ~= window.epoch then
  closed_until = math.max(closed_until, (whole(window.began) or second) + {SPAN_S})
end
closed_until = math.min(closed_until, second + {SPAN_S})
local used, oldest, moved = 0, second - {SPAN_S}, 0
for at, count in pairs(counts) do
  if tonumber(at) > second then moved = moved + count end
  if tonumber(at) > second or tonumber(at) <= second - {SPAN_S} then
    redis.call('HDEL', key, 'c' .. at)
    counts[at] = nil
  else
    used = used + count
    if oldest <= second - {SPAN_S} or tonumber(at) < oldest then oldest = tonumber(at) end
  end
end
used = used + moved
local open = second >= closed_until
local granted = open and used < limit
local added = moved + (granted and 1 or 0)
if added > 0 then
  redis.call('HSET', key, 'c' .. second, (counts['' .. second] or 0) + added)
  if oldest <= second - {SPAN_S} then oldest = second end
end
if granted then used = used + 1 end
for id, at in pairs(last) do
  if at <= second - {HOST_S} then
    redis.call('HDEL', key, 'f' .. id, 'l' .. id)
    first[id], last[id] = nil, nil
  elseif at > second then
    first[id], last[id] = math.min(first[id] or second, second), second
    redis.call('HSET', key, 'f' .. id, first[id], 'l' .. id, second)
  end
end
local hosts, is_new = 1, false
if host ~= '' then
  first[host], last[host] = first[host] or second, second
  redis.call('HSET', key, 'f' .. host, first[host], 'l' .. host, second)
  hosts = 0
  for _ in pairs(last) do hosts = hosts + 1 end
  is_new = hosts > 1 and second - first[host] < {SPAN_S}
end
redis.call('HSET', key, 'closed_until', closed_until)
redis.call('EXPIRE', key, {KEPT_S})
local frees_at = math.max(oldest + {SPAN_S}, closed_until)
local remaining = open and math.max(0, limit - used) or 0
local reset_s = math.max(0, frees_at - second)
return {{granted and 1 or 0, remaining, reset_s, window.epoch, hosts, is_new and 1 or 0}}
"""


class RedisState:
    """State in Redis."""

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis

    def get(self, key: str) -> Stored | None:
        """Return the value, or None."""
        value, left_ms = self._run(_command(_GET, key, []))
        return None if value is None else Stored(bytes(value), max(0, left_ms) / 1000)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Replace a value, or return False if it has changed.

        If the reply is lost, the swap is repeated. If the repetition then finds the value `after`,
        the first swap happened, because each value has a random member. Without the look, the
        caller would take its own record for the record of another caller.
        """
        flags = int(before is not None), int(after is not None)
        ttl_ms = max(1, int(ttl_s * 1000))
        values: list[_Value] = [flags[0], before or b"", flags[1], after or b"", ttl_ms]
        swap = _command(_SWAP, key, values)

        def swap_again(client: Any) -> bool:
            return bool(swap(client)) or client.get(key) == after

        return bool(self._run(swap, swap_again))

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        """Count a call, as `State.take` describes.

        If the reply is lost, the call is counted again. So one call may count twice, and the limit
        holds.
        """
        values: list[_Value] = [limit, host, seen, chance.token_hex(8)]
        granted, remaining, reset_s, epoch, hosts, is_new = self._run(_command(_TAKE, key, values))
        return Taken(bool(granted), remaining, reset_s, epoch.decode(), hosts, bool(is_new))

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with the prefix.

        Redis looks at all of its keys, `_SCAN_COUNT` of them in each trip.
        """
        pattern = re.sub(r"([][*?^\\-])", r"\\\1", prefix) + "*"
        found: set[bytes] = set()
        cursor: int | None = None
        while cursor != 0:
            cursor, some = self._run(_scan(cursor or 0, pattern))
            found.update(some)
        return [key.decode(errors="replace") for key in found]

    def _run(self, command: Callable[[Any], Any], again: Callable[[Any], Any] | None = None) -> Any:
        try:
            return self._redis.run(command, again)
        except RedisUnavailable:
            pass
        raise StateUnavailable


def _scan(cursor: int, pattern: str) -> Callable[[Any], Any]:
    return lambda client: client.scan(cursor, match=pattern, count=_SCAN_COUNT)


def _command(script: str, key: str, values: Sequence[_Value]) -> Callable[[Any], Any]:
    """Return a function that runs a script in Redis.

    The script itself is sent, and not its digest. A Redis that has forgotten the script would need
    two more exchanges, and each would take a part of the trip's time.
    """
    return lambda client: client.eval(script, 1, key, *values)
