# Carries Ethernet frames between two tap interfaces, each DELAY milliseconds late in both directions, until standard
# input ends. Node has no ioctl(2), which TUNSETIFF takes; perl-base is on every Debian.
# usage: perl delay-line.pl TAP TAP DELAY
use strict;
use warnings;
use Fcntl;
use Config;

my ($delay, @names) = ($ARGV[2] / 1000, @ARGV[0, 1]);
my $clock_gettime = $Config{archname} =~ /^x86_64/ ? 228 : 113;

sub now {
  my $time = pack('q2', 0, 0);
  syscall($clock_gettime, 1, $time) == 0 or die "clock_gettime: $!\n";
  my ($seconds, $nanoseconds) = unpack('q2', $time);
  return $seconds + $nanoseconds / 1e9;
}

my @taps = map {
  sysopen(my $tap, '/dev/net/tun', O_RDWR | O_NONBLOCK) or die "/dev/net/tun: $!\n";
  ioctl($tap, 0x400454ca, pack('a16 S x22', $_, 0x1002)) or die "TUNSETIFF $_: $!\n";
  $tap;
} @names;
my @late = ([], []);
$| = 1;
print "ready\n";

while (1) {
  my $wait;
  for my $queue (@late) {
    next unless @$queue;
    my $left = $queue->[0][0] - now();
    $wait = $left if !defined $wait || $left < $wait;
  }
  $wait = 0 if defined $wait && $wait < 0;
  my $readable = '';
  vec($readable, fileno($_), 1) = 1 for @taps, *STDIN;
  select($readable, undef, undef, $wait);
  exit 0 if vec($readable, fileno(STDIN), 1) && !sysread(STDIN, my $rest, 64);
  for my $side (0, 1) {
    if (vec($readable, fileno($taps[$side]), 1)) {
      my $due = now() + $delay;
      for (1 .. 256) {
        last unless sysread($taps[$side], my $frame, 65536);
        push @{$late[$side]}, [$due, $frame];
      }
    }
    my $queue = $late[$side];
    my $now = now();
    syswrite($taps[1 - $side], (shift @$queue)->[1]) while @$queue && $queue->[0][0] <= $now;
  }
}
