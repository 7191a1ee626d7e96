"""django-tenants, the usual alternative: a minimal project with the same ten tables and its own management commands."""

import os
import shutil
import sys

from fleet_variants import TABLES, Variant, make_database, names
from processes import Command, wall_time

SETTINGS = """
SECRET_KEY = "not used"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SHARED_APPS = ["django_tenants", "django.contrib.contenttypes", "customers"]
TENANT_APPS = ["ledger"]
INSTALLED_APPS = SHARED_APPS + TENANT_APPS
TENANT_MODEL = "customers.Customer"
TENANT_DOMAIN_MODEL = "customers.Domain"
TENANT_MULTIPROCESSING_MAX_PROCESSES = 2
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DATABASES = {{"default": {{"ENGINE": "django_tenants.postgresql_backend", "NAME": {database!r},
                         "USER": {user!r}, "HOST": {host!r}}}}}
"""

CUSTOMERS = """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Customer(TenantMixin):
    pass


class Domain(DomainMixin):
    pass
"""

MODELS = "from django.db import models\nfrom django.db.models.functions import Now\n"
MODEL = """

class T{0}(models.Model):
    name = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "t{0}"
        indexes = [models.Index(fields=["name"], name="t{0}_name_idx")]
"""

ADD_FIELDS = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "{before}")]
    operations = [migrations.AddField(f"t{{table}}", "c_{number}", models.IntegerField(null=True))
                  for table in range(1, 11)]
"""

CREATE = """
import django

django.setup()
from customers.models import Customer

for name in {names}:
    Customer(schema_name=name).save(verbosity=0)
"""


class Django(Variant):
    """`copy_of` is the variant whose tenants are copied instead of being created again."""

    visits, slow = True, True

    def __init__(self, label, database, folder, executor, copy_of=None):
        super().__init__(label, database, folder)
        self.executor, self.copy_of = executor, copy_of
        if copy_of:
            self.creates = False
        self.project = folder / database
        self.newest = None

    def make(self):
        if self.copy_of:
            make_database(self.database, self.copy_of.database)
        else:
            super().make()
        self.write_project()
        self.newest = "0001_initial"
        self.manage("makemigrations", "customers", "ledger")
        if not self.copy_of:
            self.manage("migrate_schemas", "--shared")

    def write_project(self):
        shutil.rmtree(self.project, ignore_errors=True)
        for app in ("customers", "ledger"):
            (self.project / app / "migrations").mkdir(parents=True)
            (self.project / app / "__init__.py").touch()
            (self.project / app / "migrations" / "__init__.py").touch()
        (self.project / "settings.py").write_text(
            SETTINGS.format(database=self.database, user=os.environ["PGUSER"], host=os.environ["PGHOST"]))
        (self.project / "customers" / "models.py").write_text(CUSTOMERS)
        (self.project / "ledger" / "models.py").write_text(MODELS + "".join(MODEL.format(table) for table in TABLES))

    def python(self, *arguments):
        path = os.pathsep.join([str(self.project), os.environ["BENCH_PYTHON"]])
        # Django can use its byte code, as in production.
        return Command(sys.executable, *arguments, PYTHONPATH=path, DJANGO_SETTINGS_MODULE="settings",
                       PYTHONDONTWRITEBYTECODE="")

    def command(self, *arguments):
        return self.python("-m", "django", *arguments, "--verbosity=0")

    def manage(self, *arguments):
        wall_time([self.command(*arguments)])

    def create(self, tenants):
        script = self.project / "create.py"
        script.write_text(CREATE.format(names=names(tenants)))
        return [self.python(script)]

    def alter(self, tenants, number):
        before, self.newest = self.newest, f"{number + 1:04}_columns"
        file = self.project / "ledger" / "migrations" / f"{self.newest}.py"
        file.write_text(ADD_FIELDS.format(before=before, number=number))
        return self.visit()

    def visit(self):
        return [self.command("migrate_schemas", "--tenant", f"--executor={self.executor}")]


class DjangoAlone(Django):
    """A project without tenants: measures what Django takes to start."""

    creates, alters = False, False
