"""The application of examples/celery_task.py, with a folder for a broker: the one that ``BROKER_FOLDER`` names."""

import os

from celery_task import app

folder = os.environ["BROKER_FOLDER"]
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder,
        "polling_interval": 0.02,
    },
)
