#!/bin/sh
# Run once by the postgres image, on an empty volume: the three accounts log in with passwords from the environment.
# Migrations create them only where they are missing, and never with a password.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
\getenv service SERVICE_PASSWORD
\getenv api API_PASSWORD
\getenv operator OPERATOR_PASSWORD
create role secretaria_service login password :'service';
create role secretaria_api login password :'api';
create role secretaria_operator login password :'operator';
SQL
