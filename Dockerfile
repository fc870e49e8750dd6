# For other hosts than App Service. It was never built: there was no Docker daemon. Tests run its command and its
# health check with exactly the files that it copies (tests/deployment/test_dockerfile.py).
FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS packages
COPY requirements.txt /
RUN python -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /requirements.txt

FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
ENV PATH=/packages/bin:$PATH PYTHONDONTWRITEBYTECODE=1
WORKDIR /service
COPY --from=packages /packages /packages
COPY gunicorn.conf.py wsgi.py ./
COPY templates templates
COPY trusted_service trusted_service
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import http.client, os, sys; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); probe.request('GET', '/healthz'); sys.exit(probe.getresponse().status != 200)"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
