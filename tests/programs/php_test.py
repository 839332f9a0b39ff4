#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""php: arrays, strings, regular expressions, JSON, objects in circles, forks; with its own allocator and without."""

import programs

SCRIPT = r"""<?php
function words($seed, $count) {
  for ($i = 0; $i < $count; $i++) {
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    yield substr(md5((string)$seed), 0, 1 + $seed % 30);
  }
}
class Node { public $next; public $data; function __construct($next, $data) { $this->next = $next; $this->data = $data; } }

for ($round = 1; $round <= 3; $round++) {
  $count = [];
  $text = '';
  foreach (words($round, 20000) as $word) {
    $count[$word] = ($count[$word] ?? 0) + 1;
    $text .= $word . ' ';
  }
  ksort($count, SORT_STRING);
  $replaced = preg_replace_callback('/([a-f]+)(\d+)/', fn($m) => $m[2] . $m[1], $text);
  $json = json_encode($count);
  $back = json_decode($json, true);
  $copy = unserialize(serialize($back));
  echo $round, ' ', md5($replaced), ' ', md5($json), ' ', $copy === $count ? 'same' : 'other', ' ', strlen($text), "\n";
  for ($i = 0; $i < 20; $i++) {
    $first = $last = new Node(null, '');
    for ($k = 0; $k < 1000; $k++) $last = new Node($last, str_repeat('x', $k));
    $first->next = $last;
  }
  unset($first, $last);
  gc_collect_cycles();
  usort($back, fn($a, $b) => $b <=> $a);
  $large = array_map(fn($n) => str_repeat(chr(65 + $n % 26), 200000 + $n), range(1, 100));
  echo md5(implode('', $large)), ' ', array_sum($back), "\n";
  unset($large);
}
foreach (['ab', 'ba'] as $arg) echo shell_exec('echo ' . escapeshellarg($arg) . ' | sha256sum');
"""


def test(stage):
    php = programs.find_program("php")
    script = stage.write("work.php", SCRIPT)
    for own_allocator in ("1", "0"):
        # Without extensions: php opens them with RTLD_DEEPBIND, so that they have another malloc than it has.
        stage.compare([php, "-n", "-d", "memory_limit=-1", script], env={"USE_ZEND_ALLOC": own_allocator})
    stage.require_witnessed(*[name for name in stage.witnessed() if name.startswith("php")] or ["php"])


if __name__ == "__main__":
    programs.main(test)
