#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""perl: hashes, strings, regular expressions, closures, forks and interpreter threads."""

import programs

SCRIPT = r"""
use strict; use warnings;
use List::Util qw(sum shuffle reduce);
use Digest::MD5 qw(md5_hex);
use Storable qw(freeze thaw dclone);
use Config;

sub random_words {
  my ($seed, $count) = @_;
  my @words;
  for (1 .. $count) {
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    push @words, substr(md5_hex($seed), 0, 1 + $seed % 30);
  }
  return @words;
}

sub digest_of_work {
  my ($seed) = @_;
  my %count;
  my @words = random_words($seed, 20000);
  $count{$_}++ for @words;
  my $text = join(' ', @words);
  my $replaced = ($text =~ s/([a-f]+)(\d+)/$2$1/g);
  my %by_length;
  push @{ $by_length{length $_} }, $_ for sort keys %count;
  my $copy = thaw(freeze(dclone(\%by_length)));
  my @lines = map { "$_:" . join(',', @{ $copy->{$_} }) } sort { $a <=> $b } keys %$copy;
  my @closures = map { my $n = $_; sub { $n * $_[0] } } 1 .. 5000;
  my $sum = sum(map { $_->(3) } @closures);
  my $long = '';
  $long .= chr(65 + $_ % 26) x ($_ % 700) for 1 .. 3000;
  my $packed = pack('N*', map { length } @words);
  return md5_hex(join("\n", $replaced, @lines, $sum, $text, $long, $packed));
}

print digest_of_work($_), "\n" for 1 .. 4;

# A child's memory is a copy of ours; both go on with it.
my %table = map { $_ => "value $_" x 20 } 1 .. 20000;
for my $child (1 .. 4) {
  my $pid = open(my $pipe, '-|') // die "fork: $!";
  if (!$pid) {
    delete $table{$_} for grep { $_ % $child == 0 } 1 .. 20000;
    print md5_hex(join '', map { $table{$_} } sort keys %table), "\n";
    exit 0;
  }
  print "child $child: ", <$pipe>;
  close $pipe or die "child: $?";
}

# A new thread clones the whole interpreter.
if ($Config{useithreads}) {
  require threads;
  my @threads = map { my $seed = $_; threads->create(sub { digest_of_work($seed) }) } 11 .. 14;
  print "thread: ", $_->join, "\n" for @threads;
}
"""


def test(stage):
    perl = programs.find_program("perl")
    script = stage.write("work.pl", SCRIPT)
    stage.compare([perl, script], env={"PERL_HASH_SEED": "0"})
    stage.require_witnessed("perl")


if __name__ == "__main__":
    programs.main(test)
