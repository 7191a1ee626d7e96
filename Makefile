# The targets are named as PostgreSQL's, and each runs a script. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo check install installcheck schema lint psql stop bench bench-fleet-large clean

help: ## show this list
	@sed -nE 's/^([a-z-]+): ## (.*)/  make \1\t\2/p' Makefile | expand -t 28

demo: ## set up, build, and run the tour in examples/demo on a private server
	@scripts/demo.sh

check: ## set up, build, and run the suite on private servers of PostgreSQL 15 and 18
	@scripts/check.sh

install: ## build and install into your server: make install PG_CONFIG=/path/to/pg_config
	@scripts/setup.sh build
	@PROFILE=release scripts/install.sh "$(or $(PG_CONFIG),$(error set PG_CONFIG to select the server: make install PG_CONFIG=/path/to/pg_config))"

installcheck: ## run the suite on the installed extension, without building; PG_CONFIG selects one server
	@FLUXBASE_TENANT_PG="$(PG_CONFIG)" scripts/installcheck.sh

schema: ## write the extension's script from the files in sql/
	@scripts/schema.sh

lint: ## rustfmt, clippy with warnings as errors, the extension's script, cargo deny, shellcheck if installed
	@scripts/lint.sh

psql: ## open a session on the demo server
	@scripts/server.sh psql 18

stop: ## stop the demo server
	@scripts/server.sh stop 18

bench: ## measure the extension against its alternatives
	@scripts/bench.sh

bench-fleet-large: ## measure the fleet with 10,000 tenants
	@scripts/bench.sh fleet_large

clean: ## stop the demo server and remove everything that was built or fetched
	@scripts/clean.sh
