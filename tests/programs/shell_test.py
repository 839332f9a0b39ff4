#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bash and the tools that scripts use: sort, awk, sed, tar, gzip, xz, find."""

import programs

SCRIPT = r"""
set -euo pipefail
declare -A count
seed=7
for ((i = 0; i < 6000; i++)); do
  seed=$(((seed * 1103515245 + 12345) % 2147483648))
  key=k$((seed / 65536 % 700))
  count[$key]=$((${count[$key]:-0} + 1))
done
for key in "${!count[@]}"; do printf '%s %d\n' "$key" "${count[$key]}"; done | sort | sha256sum

text=
for i in {1..400}; do text+="line $i ${text:0:50} "; done
echo "${#text} ${text//line/row}" | sha256sum

array=()
for i in {1..3000}; do array=("${array[@]:0:50}" "element $i"); done
printf '%s\n' "${array[@]}" | tac | head -3

# Subshells and pipes: every one of them is a fork of a process that has memory.
total=0
for i in {1..60}; do total=$((total + $(echo "$i" | tr -d '\n' | wc -c))); done
echo "$total"
diff <(seq 1 5000 | sort -R --random-source=<(yes) | sort -n) <(seq 1 5000) && echo same

seq 1 50000 | awk '{ print ($1 * 7919) % 1000003, $1, "text " $1 % 97 }' >numbers
sort --parallel=2 -S 8M -n numbers | sha256sum
sort -k4,4n -k1,1nr numbers | sha256sum
sort -u -k1,1 numbers | wc -l
awk '{ sum[$4] += $1; all[NR] = $0 } END { for (i = 0; i < 97; i++) printf "%d ", sum[i]; print length(all) }' numbers
sed -E 's/([0-9]+) ([0-9]+) (.*)/\3-\2-\1/; /9{3}/d' numbers | sha256sum
grep -c -E '(12|34)+5' numbers
mkdir -p tree/{a,b,c}
split -l 7000 numbers tree/a/part
cp tree/a/* tree/b/
tar -cf tree.tar --sort=name --mtime=@0 --owner=0 --group=0 tree
gzip -9 -n -k -c tree.tar | gzip -d | cmp - tree.tar && echo gzip ok
if command -v xz >/dev/null; then
  xz -T2 -2 -k -c tree.tar | xz -d | cmp - tree.tar && echo xz ok
fi
mkdir out && tar -xf tree.tar -C out && diff -r tree out/tree && echo tar ok
find tree -type f | sort | xargs cat | sha256sum
rm -r tree out tree.tar numbers
"""


def test(stage):
    bash = programs.find_program("bash")
    script = stage.write("script.sh", SCRIPT)
    stage.compare([bash, script])
    stage.require_witnessed("bash", "sort", "tar")


if __name__ == "__main__":
    programs.main(test)
