"""A page that counts its visitors in Redis, whichever replica answers."""

import os
import socket

from flask import Flask, jsonify
import redis

app = Flask(__name__)
store = redis.Redis(host=os.environ["REDIS_HOST"])
with open("/run/secrets/key") as file:
    app.secret_key = file.read()


@app.get("/")
def page():
    visits = store.incr("visits")
    return jsonify(title=os.environ["TITLE"], visits=visits, replica=socket.gethostname())


@app.get("/health")
def health():
    store.ping()
    return "ok"
