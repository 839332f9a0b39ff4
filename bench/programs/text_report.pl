# SPDX-License-Identifier: Apache-2.0
#
# The work of the perl program: counts, groups and rewrites the words of a text.
#
# Reads the text from standard input and prints a report that is the same under every
# allocator. It stands for log analysis: short strings in hashes, growing arrays,
# substitution by regular expressions, sorting.

use strict;
use warnings;

my (%count, %lines_of, %by_stem);
my $number = 0;
my $rewritten_length = 0;

while (my $line = <STDIN>) {
    chomp $line;
    ++$number;
    my %seen;
    for my $word (split /[^A-Za-z0-9_]+/, $line) {
        next unless length $word;
        ++$count{$word};
        push @{ $lines_of{$word} }, $number unless $seen{$word}++;
    }
    (my $rewritten = $line) =~ s/\b([a-z])([a-z]+)\b/\u$1$2/g;
    $rewritten =~ s/\s+/ /g;
    $rewritten_length += length $rewritten;
}

for my $word (keys %count) {
    my $stem = lc $word;
    $stem =~ s/(ing|ed|s)$//;
    push @{ $by_stem{$stem} }, { word => $word, count => $count{$word} };
}

my @order = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
my $sum = 0;
for my $word (@order) {
    my $text = join ',', $word, $count{$word}, @{ $lines_of{$word} };
    $sum = ($sum + unpack '%32C*', $text) % 4294967296;
}
my $largest = 0;
for my $stem (sort keys %by_stem) {
    my @forms = sort { $a->{word} cmp $b->{word} } @{ $by_stem{$stem} };
    $largest = @forms if @forms > $largest;
    $sum = ($sum + length join '|', map { "$_->{word}:$_->{count}" } @forms) % 4294967296;
}

printf "%d lines, %d words, %d stems, at most %d forms, %d characters, sum %d\n",
    $number, scalar @order, scalar keys %by_stem, $largest, $rewritten_length, $sum;
printf "%8d %s\n", $count{$_}, $_ for @order[0 .. 19];
