#!/usr/bin/perl
# Three disks with volatile write caches, and the one order in which everything happened to them.
#
#   recorder.pl <first nbd number> <trace file> <disk bytes>
#
# Serves /dev/nbd<n> (leg0), <n+1> (leg1) and <n+2> (log) from memory over the kernel's network block device (linux/nbd.h), says
# "recording" when it answers, and writes the trace at SIGTERM; a device has a size from when it can be used. dm-log-writes knows the order on one disk only, and there the order
# of completion; the order of a log and its legs needs a witness that sees the arrival and the end of every request of all three.
#
# A trace line is one event:
#   R <id> <disk> W|F <fua> <sector> <sectors> <data>   the request has reached the disk: from now on it may be on media
#   C <id>                                              it is about to be answered: nobody can know of its end before this line
# Data: of the log, all bytes in hex; of a leg, the first 8 bytes of each sector in hex. Reads and discards change nothing and are not recorded.
#
# Why the order is true: one process, one thread. C is written before the answer is sent, so whatever an answer causes comes later in the
# trace. R could be late: a request that was sent already may wait in a socket while another one is answered. So before every answer the others get the
# processor and the sockets are read until they are empty, and what decides (log writes, every flush) is held for a clock tick besides.
use strict;
use warnings;
use Fcntl;
use IO::Handle;
use Socket;

use constant {
  NBD_SET_SOCK => 0xab00, NBD_SET_BLKSIZE => 0xab01, NBD_DO_IT => 0xab03, NBD_SET_SIZE_BLOCKS => 0xab07,
  NBD_SET_TIMEOUT => 0xab09, NBD_SET_FLAGS => 0xab0a,
  # HAS_FLAGS, SEND_FLUSH, SEND_FUA: a volatile cache, and FUA that flushes nothing else.
  NBD_FLAGS => 1 | 4 | 8,
  REQUEST_MAGIC => 0x25609513, REPLY_MAGIC => 0x67446698, REQUEST_BYTES => 28,
  READ => 0, WRITE => 1, DISCONNECT => 2, FLUSH => 3, FUA_BIT => 1 << 16,
  SYS_SCHED_YIELD => 24, # x86-64
  SECTOR => 512, YIELDS => 6,
};

my ($first, $trace_path, $disk_bytes) = @ARGV;
my @names = ('leg0', 'leg1', 'log');
my (@sockets, @memory, @inputs, @queue);
my ($trace, $next_id, $over) = ('', 1, 0);

sub attach {
  my ($number) = @_;
  socketpair(my $ours, my $kernels, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
  sysopen(my $nbd, "/dev/nbd$number", O_RDWR) or die "nbd$number: $!";
  ioctl($nbd, NBD_SET_BLKSIZE, SECTOR) or die "SET_BLKSIZE: $!";
  ioctl($nbd, NBD_SET_SIZE_BLOCKS, $disk_bytes / SECTOR) or die "SET_SIZE_BLOCKS: $!";
  ioctl($nbd, NBD_SET_FLAGS, NBD_FLAGS) or die "SET_FLAGS: $!";
  ioctl($nbd, NBD_SET_TIMEOUT, 0) or die "SET_TIMEOUT: $!";
  ioctl($nbd, NBD_SET_SOCK, fileno $kernels) or die "SET_SOCK: $!";
  if (!fork) {
    close $ours;
    close $_ for @sockets;
    ioctl($nbd, NBD_DO_IT, 0);
    exit;
  }
  return $ours;
}

# Reads what is there of one socket; every whole request is recorded as arrived.
sub take {
  my ($disk) = @_;
  my $count = sysread($sockets[$disk], $inputs[$disk], 1 << 20, length $inputs[$disk]);
  if (!$count) { $over = 1; return; }
  while (length $inputs[$disk] >= REQUEST_BYTES) {
    my ($magic, $type, $handle, $from, $bytes) = unpack 'N N a8 Q> N', $inputs[$disk];
    die "bad request magic" if $magic != REQUEST_MAGIC;
    my $command = $type & 0xffff;
    my $payload = $command == WRITE ? $bytes : 0;
    return if length $inputs[$disk] < REQUEST_BYTES + $payload;
    my $data = substr $inputs[$disk], REQUEST_BYTES, $payload;
    $inputs[$disk] = substr $inputs[$disk], REQUEST_BYTES + $payload;
    if ($command == DISCONNECT) { $over = 1; return; }
    my $id = 0;
    if ($command == WRITE || $command == FLUSH) {
      $id = $next_id++;
      my $fua = $type & FUA_BIT ? 1 : 0;
      $trace .= $command == FLUSH ? "R $id $names[$disk] F 0 0 0 -\n"
        : "R $id $names[$disk] W $fua " . $from / SECTOR . ' ' . $bytes / SECTOR . ' ' . digest($disk, $data) . "\n";
    }
    push @queue, { id => $id, disk => $disk, command => $command, handle => $handle, from => $from, bytes => $bytes, data => $data };
  }
}

sub digest {
  my ($disk, $data) = @_;
  return unpack 'H*', $data if $names[$disk] eq 'log';
  return join '', map { unpack 'H16', substr $data, $_ * SECTOR, 8 } 0 .. length($data) / SECTOR - 1;
}

# Waits up to `seconds` (undef: for ever) for requests, and takes all that have come.
sub poll_sockets {
  my ($seconds) = @_;
  my $wanted = '';
  vec($wanted, fileno $_, 1) = 1 for @sockets;
  return 0 if select(my $ready = $wanted, undef, undef, $seconds) <= 0;
  for my $disk (0 .. $#sockets) { take($disk) if vec $ready, fileno $sockets[$disk], 1; }
  return 1;
}

sub answer {
  my ($request) = @_;
  my ($disk, $command) = @$request{qw(disk command)};
  # Rounded up to a clock tick.
  select undef, undef, undef, 0.001 if $command == FLUSH || $command == WRITE && $names[$disk] eq 'log';
  my $quiet = 0;
  while ($quiet < YIELDS) {
    syscall SYS_SCHED_YIELD;
    $quiet = poll_sockets(0) ? 0 : $quiet + 1;
  }
  substr($memory[$disk], $request->{from}, $request->{bytes}) = $request->{data} if $command == WRITE;
  $trace .= "C $request->{id}\n" if $request->{id};
  my $reply = pack 'N N a8', REPLY_MAGIC, 0, $request->{handle};
  $reply .= substr $memory[$disk], $request->{from}, $request->{bytes} if $command == READ;
  for (my $done = 0; $done < length $reply;) {
    my $count = syswrite $sockets[$disk], $reply, length($reply) - $done, $done;
    $over = 1, return if !defined $count;
    $done += $count;
  }
}

sub write_trace {
  open my $file, '>', $trace_path or die "$trace_path: $!";
  print $file $trace;
  close $file or die "$trace_path: $!";
}

for my $disk (0 .. $#names) {
  # The legs begin unequal in every sector; the log begins blank.
  my $name = $names[$disk];
  $memory[$disk] = $name eq 'log' ? "\0" x $disk_bytes
    : join '', map { pack "a4 N x" . (SECTOR - 8), $name, $_ } 0 .. $disk_bytes / SECTOR - 1;
  $inputs[$disk] = '';
  if ($name ne 'log') {
    my $id = $next_id++;
    $trace .= "R $id $name W 1 0 " . $disk_bytes / SECTOR . ' ' . digest($disk, $memory[$disk]) . "\nC $id\n";
  }
  push @sockets, attach($first + $disk);
}
$SIG{TERM} = sub { write_trace(); exit };
STDOUT->autoflush(1);
print "recording\n";
until ($over) {
  poll_sockets(undef) if !@queue;
  answer(shift @queue) if @queue;
}
write_trace();
