#!/usr/bin/perl
# Asks a daemon one thing over its control socket and prints the line that it answers: what `<program> status --json` does, without the half second that node
# takes to start in a guest. usage: control.pl SOCKET METHOD [PARAMS as JSON]
use strict;
use warnings;
use Socket;

my ($path, $method, $params) = @ARGV;
$params //= 'null';
socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
connect($socket, sockaddr_un($path)) or die "$path: $!\n";
syswrite($socket, qq({"id":1,"method":"$method","params":$params}\n));
while (sysread($socket, my $bytes, 65536)) {
  print $bytes;
  last if $bytes =~ /\n$/;
}
