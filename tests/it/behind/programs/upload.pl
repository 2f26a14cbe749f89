# An upload with LWP: upload.pl URL FILE PIECE
use strict;
use warnings;
use LWP::UserAgent;
use URI;

my ($url, $file, $piece) = (URI->new($ARGV[0]), $ARGV[1], $ARGV[2]);
my $client = LWP::UserAgent->new(keep_alive => 1);

sub packet {
    my ($kind, $body, @fields) = @_;
    my $request = HTTP::Request->new('BITS_POST', $url, ['BITS-Packet-Type' => $kind, @fields], $body);
    my $answer = $client->request($request);
    die "$kind: " . $answer->as_string unless $answer->code == 200;
    return $answer;
}

my $created = packet('Create-Session', undef,
    'BITS-Supported-Protocols' => '{7df0354d-249b-430f-820d-3d2a9bef4931}');
my @session = ('BITS-Session-Id' => $created->header('BITS-Session-Id'));
my $host = $created->header('BITS-Host-Id');
$url->host($host) if $host;
open my $handle, '<:raw', $file or die "$file: $!";
my ($first, $size) = (0, -s $file);
while (my $count = read $handle, my $body, $piece) {
    my $last = $first + $count - 1;
    packet('Fragment', $body, @session, 'Content-Range' => "bytes $first-$last/$size");
    $first += $count;
}
packet('Close-Session', undef, @session);
