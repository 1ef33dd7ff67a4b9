# submit MEMORY_MB MINUTES GPUS SCRIPT: submit a job and print its name.
# status JOB: print success, failed or running.
set -eu

# Memory in MB, minutes, GPUs, script.
submit() {
    kubectl create -o name -f - <<END
apiVersion: batch/v1
kind: Job
metadata:
  generateName: repro-
spec:
  backoffLimit: 0
  activeDeadlineSeconds: $(($2 * 60))
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: job
          image: "$REPRO_IMAGE"
          command: [sh, "$4"]
          env:
            - {name: REPRO_BUILD, value: "$REPRO_BUILD"}
          resources:
            requests: {cpu: 1, memory: "$1M"}
            limits: {memory: "$1M", nvidia.com/gpu: $3}
          volumeMounts:
            - {name: build, mountPath: "$REPRO_BUILD"}
      volumes:
        - name: build
          persistentVolumeClaim: {claimName: "$REPRO_CLAIM"}
END
}

status() {
    case $(kubectl get "$1" -o 'jsonpath={.status.succeeded}/{.status.failed}') in
    1/*) echo success ;;
    */1) echo failed ;;
    *) echo running ;;
    esac
}

"$@"
