# The verbs of this project. Each is one line; the work is in dev/. Every port moves with SECRETARIA_PORT_SHIFT.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo up down status logs clean dev worker migrate report test check fmt audit install-extension bench-ingest bench-quota bench-engine compose-test

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## from a fresh clone to two companies served, with everything accounted for
	@dev/demo.sh

up: ## start PostgreSQL and Kafka (installs what is missing)
	@dev/stack up

down: ## stop everything the stack started; the data stays
	@dev/stack down

status: ## what runs, on which port, since when
	@dev/stack status || true

logs: ## the end of the logs; NAME=postgres|kafka|sandbox|app for one
	@dev/stack logs $(NAME)

clean: ## stop the stack and delete its data
	@dev/stack clean

dev: ## the whole of secretaria in the foreground, against the stack and the sandbox
	@dev/stack run all

worker: ## the processors alone in the foreground; ONLY=reply for one; each process needs its own port
	@dev/stack run process $(if $(ONLY),--only $(ONLY))

migrate: ## bring the database and the topics of the stack up to date
	@dev/stack run migrate

report: ## a company's report in ./reports: make report COMPANY_ID=1 FORMAT=xlsx
	@dev/report.sh

test: ## everything CI runs, with servers of its own
	@dev/test.sh

check: ## format, lints, tidiness, spelling, compose file: no server needed
	@dev/check.sh

fmt: ## format the code
	@dev/fmt.sh

compose-test: ## build the images, bring docker-compose.yml up with Podman, send webhooks through it; KEEP=1 keeps the images
	@dev/compose-test.sh

audit: ## licences, advisories, bans and sources of the dependencies
	@dev/audit.sh

bench-ingest: ## how many signed hooks a second one ingest makes durable
	@dev/bench.sh ingest

bench-quota: ## what a check and an increment cost inside PostgreSQL, beside PL/pgSQL and beside no work
	@dev/bench.sh quota

bench-engine: ## turns a second through Kafka, job queue and PostgreSQL, beside two other engines
	@dev/bench.sh engine

install-extension: ## build the PostgreSQL extension and put it where `create extension secretaria` finds it
	@dev/install-extension.sh
