# order_mgmt: an order back end inside PostgreSQL. `make help` lists the targets.

all: ## build the library and the install script
install: ## put them where PostgreSQL finds them
installcheck: ## run the regression and isolation tests against a running server (PGHOST, PGPORT)

EXTENSION = order_mgmt
MODULE_big = order_mgmt
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" order_mgmt.control)

# Layers: a file includes only headers of modules that stand above it here (`make lint` checks it).
# Headers without a .c file stand apart, above all others.
BARE_HEADERS = \
	arrays \
	compat \
	errors \
	order_mgmt

LAYERS = \
	names faults \
	clock settings seats shared money jsonout options relations opened tables plans textform locks attempt lockwaits snapshots rotation installation siphash uuid7 inflight handlerseats jobseats bgsession jobsession wakeup \
	bytes dialect csvlines csvtext csvreader archivemanifest archivepaths archivereader archivefile \
	archives coldrows months monthswap horizon leaves eventlog ticks cursors reader census retries registry archivedamounts signatures backlog inbox claims keys orders orderrefs listing ledger work \
	request capture imports checkers settlement updater shipper lifecycle deadletters secrets \
	coldevents obstacles tablenames monthtraits monthtables monthmembers memberfile archiving restoring archivesweep \
	policies maintlog tiers warming moving \
	loadcells loadoptions loadprofiles loadparts loadrequests loads loadpast uploads staging loadfeed loadgroups loadorders loadmasters loader \
	providers timelimits modelrows models training predictionlog predictions predictionrequests scores inputrows evaluation ordercheck kindsql \
	baskets basketmodel basketfeatures basketmetrics basketscores basketexamples basketlearning baskettraining baskethistory basketoptions basketbytes basketupdate kindbasket nextorders \
	demandmethods demandmodel demandscore demandbytes demandhistory kinddemand \
	consumer pass subscribers pipeline outbox proofs invariants repair purges tablestats upkeep cronjobs maintenance comments schema \
	tasks handlers loadworker maintworker predictworker chores stages worker launcher utility_hook \
	api_arguments api_types api_setup api_accounts api_products api_capture api_orders api_pipeline api_deadletters \
	api_consumers api_subscriptions api_loading api_loads api_uploads api_archive api_partitions api_jobs api_models api_requests api_nextorders api_demand api_secrets api_invocations api_faults \
	init

OBJS = $(LAYERS:%=src/%.o)

# The one header for others: what kinds of models are made of.
HEADERS = src/order_mgmt.h

# Kinds of models that need libraries of others: each a directory of src/providers, built as a library of
# its own, order_mgmt_KIND, and only where what it needs is there (test/tools/setup installs it).
ifneq ($(shell command -v curl-config 2>/dev/null),)
PROVIDERS += http
endif
http_LIBS = -lcurl
ifneq ($(wildcard /usr/include/xgboost/c_api.h /usr/local/include/xgboost/c_api.h),)
PROVIDERS += xgboost
endif
xgboost_LIBS = -lxgboost -lgomp
provider_objs = $(patsubst %.c,%.o,$(wildcard src/providers/$(1)/*.c))
PROVIDER_OBJS = $(foreach kind,$(PROVIDERS),$(call provider_objs,$(kind)))
PROVIDER_LIBS = $(PROVIDERS:%=order_mgmt_%.so)

# --- the install script: what runs once, then what an upgrade may run again --------------------

SQL_PARTS = $(sort $(wildcard sql/schema/*.sql)) $(sort $(wildcard sql/api/*.sql))
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql

# --- tests that PGXS knows; `make test` runs these and all others on servers of its own ---------

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=$(EXTENSION)

# --- compiler ---------------------------------------------------------------------------------

PG_CONFIG ?= pg_config
export PG_CONFIG
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# PostgreSQL's headers are read as system headers: their own warnings are not ours to mend.
# PostgreSQL 15 leaves PGDLLEXPORT empty; only what carries it is visible outside the library.
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server) -DOM_VERSION='"$(EXTVERSION)"' \
	-DPGDLLEXPORT='__attribute__((visibility("default")))'
SHLIB_LINK = -lcsv -lz -lzstd
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -fvisibility=hidden -MMD -MP
EXTRA_CLEAN = $(OBJS:.o=.d) $(PROVIDER_OBJS) $(PROVIDER_OBJS:.o=.d) $(PROVIDER_LIBS)
override with_llvm = no

ifneq ($(PGXS),)
include $(PGXS)
-include $(OBJS:.o=.d) $(PROVIDER_OBJS:.o=.d)

# Sums over millions of rows.
src/basketlearning.o: CFLAGS += $(CFLAGS_VECTORIZE)

all: $(PROVIDER_LIBS)
define provider_rule
order_mgmt_$(1).so: $(call provider_objs,$(1))
	$$(CC) $$(CFLAGS) -shared -o $$@ $$^ $$(LDFLAGS) $$(LDFLAGS_SL) $$($(1)_LIBS)
endef
$(foreach kind,$(PROVIDERS),$(eval $(call provider_rule,$(kind))))

install: install-providers
install-providers: $(PROVIDER_LIBS) installdirs
	$(if $(PROVIDER_LIBS),$(INSTALL_SHLIB) $(PROVIDER_LIBS) '$(DESTDIR)$(pkglibdir)/')
uninstall: uninstall-providers
uninstall-providers:
	rm -f $(addprefix '$(DESTDIR)$(pkglibdir)'/,$(PROVIDER_LIBS))
.PHONY: install-providers uninstall-providers
else
all install installcheck:
	@echo 'PostgreSQL server headers not found; test/tools/setup installs them' >&2; exit 1
endif

$(DATA_built): $(SQL_PARTS) order_mgmt.control
	{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; cat $(SQL_PARTS); } >$@

# --- providers of the tests: the sample, and bad ones; built by all, installed by nobody -----------

BAD_PROVIDERS = faulty outside symbol abi null init kind callbacks training flags
TEST_PROVIDERS = $(patsubst %,test/provider/order_mgmt_%.so,sample $(BAD_PROVIDERS))
PROVIDER_HEADER = test/provider/include/extension/order_mgmt/order_mgmt.h
PROVIDER_CC = $(CC) $(filter-out -fvisibility=hidden -MMD -MP,$(CFLAGS)) $(CFLAGS_SL) -Wno-unused-parameter -Wno-unused-function -Wno-unused-const-variable \
	-Itest/provider/include -isystem $(shell $(PG_CONFIG) --includedir-server) -shared

ifneq ($(PGXS),)
all: $(TEST_PROVIDERS)
endif
EXTRA_CLEAN += $(TEST_PROVIDERS) test/provider/include
test/provider/order_mgmt_sample.so: test/provider/sample_provider.c $(PROVIDER_HEADER)
	$(PROVIDER_CC) -o $@ $<
test/provider/order_mgmt_%.so: test/provider/bad_provider.c $(PROVIDER_HEADER)
	$(PROVIDER_CC) -DBAD_$(shell echo $* | tr a-z A-Z) -DBAD_NAME='"$*"' -o $@ $<
# Where it lies when it is installed.
$(PROVIDER_HEADER): src/order_mgmt.h
	mkdir -p $(@D)
	cp $< $@

# --- what sets itself up ------------------------------------------------------------------------

demo: ## set up, build, install, start a private server and ship a day of orders
	test/demo/run
demo-stop: ## stop and remove the demo's server
	test/demo/run stop
test: ## set up, build, install and run every test; GROUPS="lint regress ..." picks some, PGTAP="archive jobs" and TAP="09 42" files of these
	test/tools/run-tests $(GROUPS)
torture: ## set up, build, install and let each kind of fault rage for a minute (TORTURE_SECONDS=n); NEMESIS=pattern picks some
	test/tools/run-tests torture
lint: ## check layers, names, error codes, grants and layout of the sources
	test/tools/setup
	test/tools/lint
bench: ## measure speed beside what one would use instead, and write docs/performance.md (half an hour)
	test/bench/run
bench-soak: ## the same for what takes long (about two hours)
	test/bench/run soak
bench-predict: ## measure predictions on the real histories of ../shared/data, and write docs/next-basket.md (half an hour)
	test/bench/predict
sanitize: ## run SQL tests under valgrind and the undefined-behaviour sanitizer; GROUPS, PGTAP, TAP as for test
	test/tools/sanitize $(GROUPS)
fuzz: ## feed the CSV reader what nobody would write, for a minute (FUZZ_SECONDS=n)
	test/fuzz/run
format: ## lay the C files out as `make lint` wants them
	clang-format -i src/*.c src/*.h $(wildcard src/providers/*/*.[ch])
clean: stop-servers ## remove what was built, and the private servers (stopped first)
stop-servers:
	test/tools/server remove-all
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

.PHONY: all demo demo-stop test torture lint bench bench-soak bench-predict sanitize fuzz format stop-servers help
