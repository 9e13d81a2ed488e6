-- The accounts that log in, with passwords from the environment. Migrations create them only where they are missing, and
-- never with a password.
\getenv service SERVICE_PASSWORD
\getenv api API_PASSWORD
\getenv operator OPERATOR_PASSWORD
create role secretaria_service login password :'service';
create role secretaria_api login password :'api';
create role secretaria_operator login password :'operator';
