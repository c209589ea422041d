# A server of the tests. One that has been killed turns psql away while it recovers, and psql may then
# be gone before it has read what it is to do: it has been turned away like any other, the test goes on.
package Server;
use strict;
use warnings;
use parent 'PostgreSQL::Test::Cluster';

sub psql
{
	my ($self, $database, $sql, %options) = @_;
	my @answer = wantarray ? eval { $self->SUPER::psql($database, $sql, %options) } : scalar eval { $self->SUPER::psql($database, $sql, %options) };
	my $error = $@;
	return wantarray ? @answer : $answer[0] if $error eq '';
	die $error if $options{on_error_die} || $error !~ /Broken pipe/;
	return wantarray ? (2, '', $error) : 2;
}

1;
